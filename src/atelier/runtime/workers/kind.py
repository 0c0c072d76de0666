"""What a kind of job is: how its fields are settled when it is accepted, and how it is performed later."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import AtelierError
from atelier.registry import discover
from atelier.request.events import Json, Preview, Warned
from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.jobs.lease import MadeImage, SavedState, Settled

if TYPE_CHECKING:
    from atelier.runtime.engine import Engine
    from atelier.runtime.workers.handed import HandedImages


@dataclass(frozen=True, slots=True)
class Most:
    """What one job may ask for. images: how many; pixels: of each; upload_pixels, upload_side: of an image that comes
    in; preview: seconds between two previews; save: seconds between two savings of the middle of an image."""

    images: int = 64
    pixels: int = 16_800_000
    upload_pixels: int = 25_000_000
    upload_side: int = 8192
    preview: float = 1.0
    save: float = 5.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What kinds work with. images: those that came with the job; stopping: whether the job is to be stopped now."""

    engine: Engine
    images: HandedImages
    most: Most
    stopping: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Task:
    """A job to be performed. resolved: what `settle` made; there: the indices of images that an earlier attempt made;
    saved: what it left of the middle of another; place: a folder of the job's own, which need not be there, for what it
    keeps on disk until it ends."""

    resolved: Mapping[str, Json]
    there: Collection[int] = ()
    saved: bytes | None = None
    place: Path = Path("run")


@dataclass(frozen=True, slots=True)
class Result:
    """What a job tells beside its images."""

    data: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Spent:
    """How much a job cost. calls: of a sampler to a network; again: predictions that an earlier attempt had made."""

    calls: int
    again: int


@dataclass(frozen=True, slots=True)
class Learned:
    """How a training goes. points: (step, loss) of the steps behind those told before, checks: the same of the loss of
    some training images at noise that is always the same; left: seconds, None where nobody knows."""

    points: tuple[tuple[int, float], ...] = ()
    checks: tuple[tuple[int, float], ...] = ()
    left: float | None = None


Told = JobProgress | Preview | MadeImage | SavedState | Warned | Result | Spent | Learned
"""What a job tells while it is performed."""


class Stopped(AtelierError):
    """The job was told to stop, within a piece of work that has no steps."""


@dataclass(frozen=True, slots=True)
class Kind:
    """settle: fields -> what is committed, without changing anything. Raises BadInput that names the field. perform:
    does it; closing the iterator stops it. Raises AtelierError. stops_itself: it asks `Bench.stopping`, saves where it
    is and raises Stopped, so that nobody closes the iterator before."""

    name: str
    settle: Callable[[Mapping[str, Json], Bench], Settled]
    perform: Callable[[Task, Bench], Iterator[Told]]
    aliases: tuple[str, ...] = ()
    stops_itself: bool = False


@cache
def kinds() -> Mapping[str, Kind]:
    """All kinds by name. Imports torch."""
    import atelier.runtime.workers.kinds

    return discover(atelier.runtime.workers.kinds, Kind)
