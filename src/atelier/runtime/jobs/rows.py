"""Rows and the data that they stand for."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from sqlalchemy import Connection, Row, bindparam, select

from atelier.errors import BadInput
from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, JobError, JobImage, JobProgress, NewJob, State, UnknownJob
from atelier.runtime.jobs.lease import MadeImage, Settled
from atelier.runtime.jobs.tables import images, jobs

AnyRow: TypeAlias = "Row[*tuple[Any, ...]]"
FORMATS = frozenset({"png", "jpeg", "webp", "avif"})
NOTHING_DONE = JobProgress()
_ID = re.compile(r"[0-9a-f]{32}")
_JOB = select(jobs).where(jobs.c.id == bindparam("id"))
_IMAGES = (
    select(images).where(images.c.job.in_(bindparam("jobs", expanding=True))).order_by(images.c.job, images.c.number)
)
"""Built once: to build a statement takes longer than to run it."""


def new_id() -> str:
    """An opaque name that nobody can guess: 122 random bits."""
    return uuid.uuid4().hex


def is_id(text: str) -> bool:
    """Whether a text from outside could be an id of ours; databases refuse some texts."""
    return _ID.fullmatch(text) is not None


def written(value: Json | Mapping[str, Json] | Sequence[str]) -> str:
    """ASCII JSON, one text for one value. Raises BadInput for what JSON does not have, NaN say."""
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=_plain)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"a field holds what JSON cannot say ({error})") from error


def same_fields(kept: str, fields: Mapping[str, Json]) -> bool:
    """Whether fields are those that were kept as a text, in whatever order. What was damaged is taken for the same."""
    read = _parsed(kept)
    return not read or read == json.loads(written(fields))


def _plain(value: object) -> object:
    """Mappings of all kinds are objects."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    raise TypeError(f"a {type(value).__name__}")


def digest(asked: str, resolved: str | None) -> str:
    """Of what a job is: a database that was damaged in the middle of a text would not notice."""
    return hashlib.sha256(f"{asked}\n{resolved or ''}".encode()).hexdigest()


def intact(row: AnyRow) -> bool:
    """Whether what was accepted is what stands there."""
    return row.digest == digest(row.asked, row.resolved)


def new_row(job: NewJob, owner: str, settled: Settled, now: float) -> dict[str, object]:
    """What is inserted for a job that was accepted."""
    asked = written(job.fields)
    resolved = None if settled.resolved is None else written(settled.resolved)
    return {
        "id": new_id(),
        "owner": owner,
        "kind": job.kind,
        "state": State.QUEUED,
        "priority": job.priority,
        "cost": settled.cost,
        "attempt": 0,
        "timeout": job.timeout,
        "cancelling": False,
        "created": now,
        "asked": asked,
        "resolved": resolved,
        "digest": digest(asked, resolved),
        "warnings": warnings_text(settled.warnings),
    }


def image_row(job_id: str, image: MadeImage, file: str) -> dict[str, object]:
    """What is inserted for an image whose file is durable."""
    details: dict[str, Json] = {
        "seed": image.seed,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "infotext": image.infotext,
    }
    return {
        "id": new_id(),
        "job": job_id,
        "number": image.index,
        "file": file,
        "bytes": len(image.data),
        "sha256": hashlib.sha256(image.data).hexdigest(),
        "details": written(details),
    }


def listed_image(row: Mapping[str, object], image: MadeImage) -> JobImage:
    """The image that `row`, made of it, lists."""
    return JobImage(
        id=str(row["id"]),
        index=image.index,
        seed=image.seed,
        width=image.width,
        height=image.height,
        format=image.format,
        sha256=str(row["sha256"]),
        infotext=image.infotext,
    )


def image_of(row: AnyRow) -> JobImage:
    """The image of a row of `images`. What was damaged in the details is empty: the file has all of it too."""
    said = _parsed(row.details)
    return JobImage(
        id=row.id,
        index=row.number,
        seed=said.get("seed"),
        width=said.get("width", 0),
        height=said.get("height", 0),
        format=said.get("format", "png"),
        sha256=row.sha256,
        infotext=said.get("infotext", ""),
    )


def _all_done(row: AnyRow, images: int) -> JobProgress:
    """Of a job that is done: all the steps that its worker told of."""
    steps = _parsed(row.warnings).get("steps", 0)
    return JobProgress(steps, steps, images, images, 1.0)


def warnings_of(row: AnyRow) -> tuple[str, ...]:
    """The warnings of a row of `jobs`."""
    return tuple(_parsed(row.warnings).get("list", ()))


def warnings_text(warnings: Iterable[str], steps: int = 0) -> str:
    """Warnings as they are kept; steps: what a job had to do, kept beside them once it is done."""
    return written({"list": list(warnings), **({"steps": steps} if steps else {})})


def _error(said: dict[str, Any]) -> JobError:
    return JobError(said.get("kind", ""), said.get("message", "the error was damaged"), said.get("exit_code", 1))


def _parsed(text: str) -> dict[str, Any]:
    """What `written` made of a mapping; empty where the database was damaged."""
    try:
        read = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", read) if isinstance(read, dict) else {}


def error_text(error: JobError) -> str:
    """An error as it is kept."""
    return written({"kind": error.kind, "message": error.message, "exit_code": error.exit_code})


def images_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, tuple[JobImage, ...]]:
    """The images of several jobs, in their order."""
    found: dict[str, list[JobImage]] = {job_id: [] for job_id in job_ids}
    for row in connection.execute(_IMAGES, {"jobs": list(job_ids)}):
        found[row.job].append(image_of(row))
    return {job_id: tuple(listed) for job_id, listed in found.items()}


def row_of(connection: Connection, job_id: str) -> AnyRow | None:
    """The row of a job."""
    return connection.execute(_JOB, {"id": job_id}).first()


def owned(connection: Connection, job_id: str, owner: str) -> AnyRow:
    """The row of an owner's job. Raises UnknownJob, in the same words for what is not there and what is another's."""
    row = row_of(connection, job_id) if is_id(job_id) else None
    if row is None or row.owner != owner:
        raise UnknownJob(f"{job_id[:80]!r} is no job of yours")
    return row


def job_of(
    row: AnyRow,
    made: tuple[JobImage, ...],
    *,
    position: int | None = None,
    expected: float | None = None,
    progress: JobProgress = NOTHING_DONE,
) -> Job:
    """The job of a row of `jobs`."""
    state = State(row.state)
    if state.ended:
        progress = _all_done(row, len(made)) if state is State.DONE else NOTHING_DONE
    return Job(
        id=row.id,
        kind=row.kind,
        state=state,
        owner=row.owner,
        priority=row.priority,
        attempt=row.attempt,
        created=row.created,
        started=row.started,
        ended=row.ended,
        position=position,
        expected=expected,
        progress=progress,
        images=made,
        warnings=warnings_of(row),
        error=None if row.error is None else _error(_parsed(row.error)),
        asked=_parsed(row.asked),
        resolved=None if row.resolved is None else _parsed(row.resolved),
        result=None if row.result is None else _parsed(row.result),
    )
