"""What goes wrong, in one form; each front renders it in its dialect's shape. Never a trace, never a path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import cast

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from atelier.errors import AtelierError, BadFile, BadInput, StorageFull, UnknownName
from atelier.request.events import Json
from atelier.request.fields import SIDE_STEP
from atelier.request.table import FIELDS
from atelier.runtime.jobs.canvases import Changed
from atelier.runtime.jobs.job import NotReady, QueueFull, StoreFailed, TooLarge, UnknownJob


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request is refused or failed. kind: the name of the error's class. message: one line.

    field: the culprit, where it is one field or parameter. retry_after: seconds. issues: one entry for each field that
    did not validate. request_id: what the log calls the request.
    """

    status: int
    kind: str
    message: str
    field: str | None = None
    retry_after: float | None = None
    issues: tuple[Mapping[str, Json], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a dialect answers: a status and a JSON body."""

    status: int
    body: Json


class Refused(HTTPException):
    """Raised where a request is turned away; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.status, problem.message)


def refuse(status: int, message: str, *, field: str | None = None, kind: str = "BadInput") -> Refused:
    """The exception that answers `status` with a message."""
    return Refused(Problem(status, kind, message, field))


ABSENT = Problem(404, "NotFound", "nothing is there, or it is not yours")
"""The same for what is nowhere, what belongs to another, and what is no name at all: nobody learns which."""
_STATUS: tuple[tuple[type[AtelierError], int], ...] = (
    (QueueFull, 429),
    (NotReady, 503),
    (TooLarge, 422),
    (StorageFull, 507),
    (UnknownName, 422),
    (Changed, 412),
    (BadInput, 422),
)
"""The first class that fits decides."""
NOT_ASKED = frozenset({"output"})
"""Fields that no client may set: where files lie is the server's affair."""
_UNKNOWN = re.compile(r"unknown (?P<kind>\w+) '(?P<name>[^']*)'")


def problem_of(error: Exception) -> Problem:
    """Any exception as a problem; one that nobody foresaw says no more than that."""
    match error:
        case Refused():
            return error.problem
        case UnknownJob() | HTTPException(status_code=404):
            return ABSENT
        case AtelierError():
            return _foreseen(error)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            return _of_http(error)
        case _:
            return Problem(500, "InternalError", "the server failed here; its log has the details")


def _of_http(error: HTTPException) -> Problem:
    headers = tuple((error.headers or {}).items())
    if error.status_code == 405:
        return Problem(405, "MethodNotAllowed", "this path has no such method: see Allow", headers=headers)
    return Problem(error.status_code, "HTTPException", str(error.detail), headers=headers)


def _foreseen(error: AtelierError) -> Problem:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if isinstance(error, StoreFailed):
        status = 507 if error.full else 503
    retry_after = error.retry_after if isinstance(error, QueueFull | NotReady) else None
    message = _without_folders(error)
    return Problem(status, type(error).__name__, message, error.field or field_in(message), retry_after)


def _without_folders(error: AtelierError) -> str:
    if isinstance(error, BadFile):
        return f"{PurePath(error.path).name}: {error.problem}"
    return str(error)


def field_in(message: str) -> str | None:
    """The field that a message of the request begins with, or of which it calls a name unknown."""
    unknown = _UNKNOWN.match(message)
    if unknown is not None and unknown["kind"] == "field":
        return unknown["name"]
    word = unknown["kind"] if unknown else message.partition(" ")[0].rstrip(":")
    return word if word in FIELDS else None


def _invalid(error: RequestValidationError) -> Problem:
    issues = tuple(_issue(issue) for issue in error.errors())
    first = issues[0]
    loc = first["loc"]
    assert isinstance(loc, list)
    name = ".".join(str(part) for part in loc[1:]) or str(loc[0])
    return Problem(422, "BadInput", _told(name, str(first["type"]), str(first["msg"])), name, issues=issues)


def _told(name: str, kind: str, message: str) -> str:
    """What did not validate, in our own words where we know the field's limits."""
    limits = FIELDS[name].limits if name in FIELDS else None
    if kind == "missing":
        return f"{name} is missing: give it"
    if kind == "extra_forbidden":
        near = [] if name in NOT_ASKED else difflib.get_close_matches(name, FIELDS.keys() - NOT_ASKED, n=1)
        return f"unknown field {name[:60]!r}: " + (f"did you mean {near[0]}?" if near else "leave it out")
    if limits is not None and FIELDS[name].kind in {"int", "float"}:
        number = "a number" if FIELDS[name].kind == "float" else "a whole number"
        step = f", a multiple of {SIDE_STEP}" if kind == "multiple_of" else ""
        return f"{name} must be {number} from {limits.low} to {limits.high}{step}"
    return f"{name}: {message[:1].lower()}{message[1:]}"


def _issue(issue: Mapping[str, object]) -> Mapping[str, Json]:
    """One entry of FastAPI's list, without the input, which may be large, and without what JSON has not."""
    loc = issue["loc"]
    assert isinstance(loc, Sequence)
    parts: list[Json] = [part if isinstance(part, int) else str(part) for part in cast("Sequence[object]", loc)]
    return {"loc": parts, "msg": str(issue["msg"]), "type": str(issue["type"])}


def with_id(problem: Problem, request_id: str) -> Problem:
    """The same problem, with the id of the request."""
    return replace(problem, request_id=request_id)
