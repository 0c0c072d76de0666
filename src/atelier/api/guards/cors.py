"""Cross-origin reading: of nobody, unless an origin is named; then by exact comparison, and without credentials."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": (
        "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID"
    ),
    "Access-Control-Max-Age": "600",
}
EXPOSED = "ETag, Location, Retry-After, X-Request-Id"
"""Headers of answers that pages may read beside those that all may."""


class Cors:
    """Answers preflights of `allowed` origins, and lets them read."""

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self.app = app
        self.allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.allowed:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origins = headers.getlist("origin")
        origin = origins[0] if len(origins) == 1 and origins[0] in self.allowed else None

        async def allowing(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                sent.add_vary_header("Origin")
                if origin is not None:
                    sent["Access-Control-Allow-Origin"] = origin
                    sent["Access-Control-Expose-Headers"] = EXPOSED
                    sent["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        asks = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if asks and origin is not None:
            await Response(status_code=204, headers=ALLOWED)(scope, receive, allowing)
            return
        await self.app(scope, receive, allowing)
