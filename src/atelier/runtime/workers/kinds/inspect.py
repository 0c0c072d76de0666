"""Saying all about a file of weights that only reading it tells: its hashes, and whether its numbers are numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

from pydantic import BaseModel, ConfigDict, Field

from atelier.checkpoints.inspecting import FileReport, Hashes, hashes, inspect
from atelier.checkpoints.soundness import Soundness, soundness
from atelier.request.events import Json
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.workers.kind import Bench, Kind, Result, Task, Told
from atelier.runtime.workers.kinds.upscale import asked_of
from atelier.runtime.workers.shelf import place_of, told
from atelier.runtime.workers.stepwise import stepwise
from atelier.weights.formats.safetensors import Tell

BYTES_A_SECOND = 1e9
"""About what is hashed: costs are counted in seconds."""
HASHED, WHOLE = 40, 100
"""Hundredths of the work."""


class Inspect(BaseModel):
    """The fields of this kind. id: of the list of files; check: whether all numbers are looked at, too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern="^[0-9a-f]{24}$")]
    check: bool = False


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput for an id that is not there, BadFile for what cannot be read."""
    asked = asked_of(Inspect, fields)
    path = place_of(bench.engine.library, asked.id)
    found = inspect(path)
    return Settled({**asked.model_dump(), "path": str(path)}, cost=(1 + asked.check) * found.bytes / BYTES_A_SECOND)


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """Tells what the headers say, the hashes, and the names of tensors that are broken."""
    found, check = inspect(Path(str(task.resolved["path"]))), bool(task.resolved["check"])

    def read(tell: Tell) -> tuple[Hashes, Soundness | None]:
        tell(0, WHOLE)
        digests = hashes(found, bench.engine.resources.hashes)
        tell(HASHED, WHOLE)
        return digests, _sound(found, tell) if check else None

    digests, sound = yield from stepwise(read, bench.stopping)
    said = told(bench.engine.library, found, bench.engine.resources.hashes, digests)
    more = {} if sound is None else cast("dict[str, Json]", {key: [*own] for key, own in asdict(sound).items()})
    yield Result({**said, **more, "id": str(task.resolved["id"])})


def _sound(found: FileReport, tell: Tell) -> Soundness:
    """File by file, so that it can be stopped in between."""
    bad: list[str] = []
    zero: list[str] = []
    for number, archive in enumerate(found.archives):
        tell(HASHED + (WHOLE - HASHED) * number // len(found.archives), WHOLE)
        own = soundness([archive])
        bad += own.not_finite
        zero += own.zero
    return Soundness(tuple(bad), tuple(zero))


SPECS = (Kind("inspect", settle, perform),)
