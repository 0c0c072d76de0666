"""Where a request comes from: a web page of another origin may change nothing here."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from atelier.api.errors import Problem
from atelier.api.guards.answering import turn_away

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HERE = frozenset({"same-origin", "none"})
_PORTS = {"http": ":80", "https": ":443"}


class Origins:
    """Refuses (403) unsafe methods from other origins than our own and `allowed`, by Origin and by Sec-Fetch-Site.

    A program that is no browser sends neither, and passes.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self.app = app
        self.allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE and not self._is_ours(Headers(scope=scope)):
            message = "a web page of another origin may change nothing: start the server with --allow-origin ORIGIN"
            await turn_away(scope, receive, send, Problem(403, "Forbidden", message))
            return
        await self.app(scope, receive, send)

    def _is_ours(self, headers: Headers) -> bool:
        origins = headers.getlist("origin")
        if len(origins) == 1 and origins[0] in self.allowed:
            return True
        if any(site not in _HERE for site in headers.getlist("sec-fetch-site")):
            return False
        return not origins or (len(origins) == 1 and same(origins[0], headers.get("host", "")))


def same(origin: str, host: str) -> bool:
    """Whether an Origin is that of the address which the browser wrote into Host; "null" never is."""
    scheme, divider, address = origin.partition("://")
    usual = _PORTS.get(scheme)
    if not divider or usual is None:
        return False
    return address.casefold().removesuffix(usual) == host.casefold().removesuffix(usual)
