"""How a guard answers in place of a route: in the dialect of the path."""

from __future__ import annotations

import math

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from atelier.api.errors import Problem, with_id
from atelier.api.front import front_of


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
