"""The outermost guard: each request gets an id, a line in the log, and an answer whatever happens."""

from __future__ import annotations

import logging
import secrets

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atelier.api.errors import problem_of
from atelier.api.guards.answering import answer

log = logging.getLogger("atelier.http")


class Identity:
    """Sets `request_id` in the scope's state and the header X-Request-Id; turns any exception into a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, named)
        except Exception as error:
            log.exception("%s failed", request_id)
            if started:
                raise
            await answer(scope, receive, named, problem_of(error))
