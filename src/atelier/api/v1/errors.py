"""Errors as OpenAI has them, for everything under /v1, so that one client library reads both dialects."""

from __future__ import annotations

from atelier.api.errors import Problem, Reply
from atelier.request.events import Json

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_type(status: int) -> str:
    """The type of an error by its status, in OpenAI's words."""
    if status >= 500:
        return "server_error"
    return _TYPES.get(status, "invalid_request_error")


def render(problem: Problem) -> Reply:
    """{"error": {message, type, param, code, request_id}}; code: the name of our error."""
    error: dict[str, Json] = {
        "message": problem.message,
        "type": error_type(problem.status),
        "param": problem.field,
        "code": problem.kind,
        "request_id": problem.request_id,
    }
    return Reply(problem.status, {"error": error})
