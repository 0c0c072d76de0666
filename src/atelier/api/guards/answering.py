"""How a guard answers in place of a route: in the dialect of the path."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from atelier.api.errors import Problem, with_id
from atelier.api.front import front_of

SMALL = 64 << 10
"""Bytes of a body that are read though nobody wants them."""
PATIENCE = 1.0
"""Seconds that they have to come."""


def response(scope: Scope, problem: Problem) -> Response:
    """A problem as the front of the path renders it."""
    reply = front_of(scope["path"]).render(with_id(problem, scope.get("state", {}).get("request_id", "")))
    made = JSONResponse(reply.body, reply.status, dict(problem.headers))
    if problem.retry_after is not None:
        made.headers["Retry-After"] = str(max(1, math.ceil(problem.retry_after)))
    return made


async def answer(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    """Answers with a problem; what is left of the body is not read."""
    await response(scope, problem)(scope, receive, send)


async def turn_away(scope: Scope, receive: Receive, send: Send, problem: Problem) -> None:
    """Answers a request of which nothing was read. A small body is read first: a connection that is closed while bytes
    lie unread is reset, and the client may never see the answer."""
    length = Headers(scope=scope).get("content-length", "0")
    if length.isdecimal() and 0 < int(length) <= SMALL:
        with suppress(TimeoutError):
            await asyncio.wait_for(_read(receive), PATIENCE)
    await answer(scope, receive, send, problem)


async def _read(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass
