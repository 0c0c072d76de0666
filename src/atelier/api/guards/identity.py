"""The outermost guard: each request gets an id, a line in the log, and an answer whatever happens."""

from __future__ import annotations

import json
import logging
import secrets
import time
import traceback

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atelier.api.errors import problem_of
from atelier.api.guards.answering import answer

FRAMES = 12
"""Of a trace, the innermost: those outside are the guards and the router."""
FILES = "/v1/files/"
"""Below this each address is signed, and opens without another key."""
log = logging.getLogger("atelier.http")


class Identity:
    """Sets `request_id` in the scope's state and the header X-Request-Id; turns any exception into an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        began = time.monotonic()

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, named)
        except Exception as error:
            log.error("%s", as_line(request=request_id, error=traceback.format_exc(limit=-FRAMES)))  # noqa: TRY400 - in one line
            if status:
                raise
            await answer(scope, receive, named, problem_of(error))
        finally:
            log.info("%s", _told(scope, request_id, status, time.monotonic() - began))


def _told(scope: Scope, request_id: str, status: int, seconds: float) -> str:
    """Who asked what, and what came of it: no query, no header, no body, so that no key and no prompt is logged."""
    owner = scope["state"].get("owner")
    return as_line(
        request=request_id,
        method=scope["method"],
        path=_shown(scope["path"]),
        status=status,
        ms=round(seconds * 1000, 1),
        key=owner.key if owner else None,
    )


def _shown(path: str) -> str:
    """Without the ticket of a file, which is the key to it."""
    return f"{FILES}..." if path.startswith(FILES) else path[:500]


def as_line(**values: str | float | None) -> str:
    """One line of JSON in ASCII: whatever a text holds, it begins no line of its own and colours no terminal."""
    return json.dumps(values)
