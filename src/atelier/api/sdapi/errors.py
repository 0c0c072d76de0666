"""Errors as A1111 has them."""

from __future__ import annotations

from pydantic import BaseModel, JsonValue

from atelier.api.errors import Problem, Reply
from atelier.request.events import Json


class A1111Error(BaseModel):
    """error: the name of the error; detail: what it says, or a list of what did not validate; errors: one line."""

    error: str
    detail: JsonValue
    body: str
    errors: str


def render(problem: Problem) -> Reply:
    """{"error", "detail", "body", "errors"}. A body that does not validate has FastAPI's list as its detail."""
    issues = list[Json](dict(issue) for issue in problem.issues)
    detail: Json = issues or (problem.message if problem.status < 500 else "")
    kind = "RequestValidationError" if issues else problem.kind
    body: dict[str, Json] = {"error": kind, "detail": detail, "body": "", "errors": problem.message}
    return Reply(problem.status, body)
