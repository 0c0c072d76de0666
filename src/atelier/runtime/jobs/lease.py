"""What a worker holds of a job while it does it, and what it hands to the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atelier.errors import AtelierError
from atelier.request.events import Json
from atelier.runtime.jobs.job import Job, State


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do a job. worker: who has it; attempt: 1 for the first run; token: opaque, new with each claim."""

    job_id: str
    worker: str
    attempt: int
    token: str


@dataclass(frozen=True, slots=True)
class SavedState:
    """The middle of an image, to go on from. image: 0-based; step: sampler steps that are behind; data: opaque."""

    image: int
    step: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is to be done now. job.images: those an earlier attempt has made, which are not made again."""

    lease: Lease
    job: Job
    saved: SavedState | None


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image that a worker has made. index: 0-based in the job; format: "png", "jpeg" or "webp"; data: the file.

    thumbnail: a small JPEG or WebP, None for none.
    """

    index: int
    seed: int | None
    width: int
    height: int
    format: str
    infotext: str
    data: bytes
    thumbnail: bytes | None = None


@dataclass(frozen=True, slots=True)
class Overdue:
    """A job whose lease or time ran out. worker: who held it, "" for one that waited; state: what it is now."""

    job_id: str
    worker: str
    state: State


@dataclass(frozen=True, slots=True)
class Accepted:
    """job: the one that was committed; new: False where an idempotency key gave an earlier one."""

    job: Job
    new: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """What the store holds. states: jobs by state; outputs, uploads: bytes on disk."""

    states: Mapping[State, int]
    outputs: int
    uploads: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What acceptance settled. resolved: the whole job as JSON; cost: the work, proportional to time, in one unit for
    jobs of all kinds; uploads: names ("upload:SHA256") of the inputs, kept while the job lives."""

    resolved: Mapping[str, Json] | None = None
    cost: float = 1.0
    uploads: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


UNSETTLED = Settled()


class LeaseLost(AtelierError):
    """The job is no longer the worker's: it was cancelled, ran out of time, or was given to another. The worker drops
    what it has and asks for the next one."""
