"""A job as everybody outside the store sees it: frozen data without a database, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from atelier.errors import AtelierError
from atelier.request.events import Json


class State(StrEnum):
    """Where a job is in its life. Of those that end it, each job reaches exactly one, and keeps it."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    QUARANTINED = "quarantined"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the job."""
        return self not in {State.QUEUED, State.RUNNING}


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose jobs these are. key: the name of an API key, "" where the server asks for none. admin: may change what
    all see (models in memory, settings)."""

    key: str = ""
    admin: bool = True


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is asked for. kind: a key of the registry of kinds ("generate", "upscale", "interrogate", ...).

    fields: of the kind; for "generate" those of `request.table.FIELDS` by name, side by side. An image is named by what
    `Service.upload` gave for it, never by a path. priority: higher is sooner, 0 is usual. idempotency_key: the same job
    is given for the same key of the same owner. timeout: seconds that it may run, None = the server's limit.
    """

    kind: str
    fields: Mapping[str, Json]
    priority: int = 0
    idempotency_key: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class JobImage:
    """An image that a job made: durable from the moment it is listed.

    id: opaque, what `Service.image` takes. index: 0-based. format: "png". sha256: of the file. infotext: the text that
    makes it again, "" where there is none.
    """

    id: str
    index: int
    seed: int | None
    width: int
    height: int
    format: str
    sha256: str
    infotext: str


@dataclass(frozen=True, slots=True)
class JobProgress:
    """done of total sampler steps; image (0-based) of images; share: of all the work, 0 to 1."""

    done: int = 0
    total: int = 0
    image: int = 0
    images: int = 0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed. kind: the name of the error's class; message: one line; exit_code: what `atelier` would exit
    with, 2 for what the caller can mend."""

    kind: str
    message: str
    exit_code: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. Times are seconds since 1970, None for what has not happened.

    attempt: 1 for the first run, 0 before. position: jobs that start before it, None once it started. expected: seconds
    until it ends, as far as one can tell. asked: the fields that were sent; resolved: what was settled at acceptance,
    as JSON; result: what a job tells beside images (the text of an interrogation).
    """

    id: str
    kind: str
    state: State
    owner: str
    priority: int
    attempt: int
    created: float
    started: float | None
    ended: float | None
    position: int | None
    expected: float | None
    progress: JobProgress
    images: tuple[JobImage, ...]
    warnings: tuple[str, ...]
    error: JobError | None
    asked: Mapping[str, Json]
    resolved: Mapping[str, Json] | None
    result: Mapping[str, Json] | None


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job. number: counts up within the job; name: "state", "progress", "preview",
    "image", "warning"; data: the job, its progress, {"index", "image": base64 of a JPEG}, the image, {"message"}."""

    number: int
    name: str
    data: Mapping[str, Json]


class UnknownJob(AtelierError):
    """No job, image or upload of this name belongs to the one who asks. HTTP: 404."""

    exit_code = 2


class QueueFull(AtelierError):
    """So many jobs wait that no more are taken, from all or from one key. HTTP: 429. retry_after: seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class NotReady(AtelierError):
    """The server starts, stops, or its workers are not there. HTTP: 503. retry_after: seconds."""

    def __init__(self, message: str, retry_after: float = 2.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class TooLarge(AtelierError):
    """More bytes, pixels or work than the server takes. HTTP: 413 for bytes, else 422."""

    exit_code = 2


class StoreFailed(AtelierError):
    """The disk or the database of the server refuses; nothing is half done. full: no space is left. HTTP: 507 when
    full, else 503. The message goes to clients and names no place; path: the culprit on the server, "" where there is
    none, which `located` puts in front for the log and the operator."""

    def __init__(self, message: str, *, path: object = "", full: bool = False) -> None:
        self.full, self.path = full, str(path)
        super().__init__(message)


class FolderInUse(AtelierError):
    """Another server has the folder or the database of jobs open."""

    exit_code = 2


def located(error: AtelierError) -> str:
    """The message of an error for the operator, with the place that clients are not told."""
    place = error.path if isinstance(error, StoreFailed) else ""
    return f"{place}: {error}" if place else str(error)
