"""A server of Atelier, called over HTTP: what `submit`, `jobs`, `watch` and `fetch` share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from atelier.errors import AtelierError, BadInput

if TYPE_CHECKING:
    import httpx

USUAL = "http://127.0.0.1:7860"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
CONNECT, READ = 10.0, 60.0
"""Seconds: to be connected, and to hear something; a stream of events is never silent for so long."""

Address = Annotated[
    str,
    typer.Option("--server", envvar="ATELIER_SERVER", metavar="URL", help="Address of the server (atelier serve)."),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="ATELIER_API_KEY", metavar="KEY", help="Key of the server.", show_default="none"),
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job, as `atelier submit` prints it.")]


class Unreachable(AtelierError):
    """Nobody answers at the address, or no more."""

    exit_code = 2


class ServerRefused(AtelierError):
    """The server answers with an error. status: of HTTP."""

    exit_code = 2

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


def job_path(job: str, more: str = "") -> str:
    """The path of a job at a server. Raises BadInput for what is no id."""
    if not _ID.fullmatch(job):
        raise BadInput(f"{job!r} is no id of a job: `atelier jobs` lists them")
    return f"/v1/jobs/{job}{more}"


@dataclass(frozen=True, slots=True)
class Server:
    """client: with the address and the key."""

    url: str
    client: httpx.Client

    def get(self, path: str, **query: str) -> httpx.Response:
        """Raises Unreachable, ServerRefused."""
        return self._sent(self.client.build_request("GET", path, params=query))

    def object(self, path: str, **query: str) -> dict[str, Any]:
        """The object of JSON at a path."""
        return self._read(self.get(path, **query))

    def post(self, path: str, fields: Mapping[str, object], headers: Mapping[str, str]) -> dict[str, Any]:
        """Sends JSON and reads the answer's."""
        request = self.client.build_request("POST", path, json=dict(fields), headers=dict(headers))
        return self._read(self._sent(request))

    def upload(self, data: bytes, kind: str) -> str:
        """Sends the file of an image; gives what fields call it."""
        request = self.client.build_request("POST", "/v1/uploads", content=data, headers={"Content-Type": kind})
        return str(self._read(self._sent(request))["id"])

    def _sent(self, request: httpx.Request) -> httpx.Response:
        import httpx

        try:
            answer = self.client.send(request)
        except httpx.HTTPError as error:
            raise unreachable(self.url, error) from None
        if answer.is_error:
            raise refusal(self.url, answer)
        return answer

    def _read(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServerRefused(f"{self.url}: answers with no JSON: is it a server of Atelier?", answer.status_code)
        return cast("dict[str, Any]", found)


def server(url: str, key: str | None) -> Server:
    """The server at an address. Nothing is sent yet. Raises BadInput for an address that is none."""
    try:
        import httpx
    except ImportError:
        raise BadInput("httpx is not installed: pip install 'atelier[serve]'") from None
    address = url.strip().rstrip("/")
    try:
        parsed = httpx.URL(address)
    except httpx.InvalidURL:
        parsed = None
    if parsed is None or parsed.scheme not in {"http", "https"} or not parsed.host:
        raise BadInput(f"--server {url!r}: write an address such as {USUAL}")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    client = httpx.Client(base_url=address, headers=headers, timeout=httpx.Timeout(READ, connect=CONNECT))
    return Server(address, client)


def unreachable(url: str, error: httpx.HTTPError) -> Unreachable:
    """The error for a request that got no answer."""
    import httpx

    if isinstance(error, httpx.ConnectError):
        return Unreachable(f"{url}: nobody answers: start `atelier serve`, or give --server URL")
    what = str(error) or type(error).__name__
    return Unreachable(f"{url}: the connection failed ({what}): try again")


def refusal(url: str, answer: httpx.Response) -> ServerRefused:
    """The error that an answer is: what the server says, in one line."""
    try:
        said = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = f"HTTP status {answer.status_code}: is it a server of Atelier?"
    message = " ".join(str(said).split())
    if answer.status_code in {401, 403}:
        message += " (--api-key KEY)"
    after = answer.headers.get("Retry-After")
    wait = f" (in {after} seconds)" if after else ""
    return ServerRefused(f"{url}: {message}{wait}", answer.status_code)
