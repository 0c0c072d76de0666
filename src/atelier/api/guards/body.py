"""What a body may be: its kind and its size, before anybody reads it."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atelier.api.errors import Problem, Refused
from atelier.api.front import media_types
from atelier.api.guards.answering import turn_away

CLOSE = (("Connection", "close"),)
"""The rest of the body is not read, so no other request can follow on the connection."""
IDLE_SECONDS = 30
"""Between two pieces of a body, and the time that all of it has beside what follows: what is slower is no client that
works."""
SLOWEST = 500
"""Bytes of a body a second: what Apache's mod_reqtimeout asks for, too."""


class Bodies:
    """Refuses bodies of a wrong kind or encoding (415), above `limit` bytes (413), and those that come slowly (408)."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        problem = self._problem(scope, Headers(scope=scope))
        if problem is not None:
            await turn_away(scope, receive, send, problem)
            return
        await self.app(scope, self._counted(receive), send)

    def _problem(self, scope: Scope, headers: Headers) -> Problem | None:
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            return Problem(400, "BadInput", "the header Content-Length is no number", headers=CLOSE)
        if "transfer-encoding" in headers and "content-length" in headers:
            message = (
                "the body has a Content-Length and a Transfer-Encoding: two programs may read two requests in that"
            )
            return Problem(400, "BadInput", message, headers=CLOSE)
        if int(length) > self.limit:
            return self._too_large()
        if headers.get("content-encoding", "identity").casefold() not in {"identity", ""}:
            message = "the body is compressed: send it as it is, without Content-Encoding"
            return Problem(415, "BadInput", message, headers=CLOSE)
        if int(length) or "transfer-encoding" in headers:
            return _of_wrong_kind(scope, headers)
        return None

    def _counted(self, receive: Receive) -> Receive:
        got = 0
        waiting = True
        began = time.monotonic()

        async def counted() -> Message:
            nonlocal got, waiting
            left = began + IDLE_SECONDS + got / SLOWEST - time.monotonic()
            message = await (_in_time(receive, min(left, IDLE_SECONDS)) if waiting else receive())
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                waiting = bool(message.get("more_body", False))
            if got > self.limit:
                raise Refused(self._too_large())
            return message

        return counted

    def _too_large(self) -> Problem:
        message = f"the body is larger than {self.limit} bytes, which is all that the server takes"
        return Problem(413, "TooLarge", message, headers=CLOSE)


async def _in_time(receive: Receive, seconds: float) -> Message:
    try:
        return await asyncio.wait_for(receive(), max(0.0, seconds))
    except TimeoutError:
        message = f"the body came slower than {SLOWEST} bytes a second, or not at all for {IDLE_SECONDS} seconds"
        raise Refused(Problem(408, "BadInput", message, headers=CLOSE)) from None


def _of_wrong_kind(scope: Scope, headers: Headers) -> Problem | None:
    """JSON, unless the front says that the path takes something else. A browser cannot send JSON from another origin
    without asking first, which is why no other spelling of it passes."""
    if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
        return None
    taken = media_types(scope["path"])
    given = headers.getlist("content-type")
    if len(given) == 1 and given[0].partition(";")[0].strip().casefold() in taken:
        return None
    message = f"the body's Content-Type is not taken here: send {' or '.join(taken)}"
    return Problem(415, "BadInput", message, headers=CLOSE)
