"""Mixing models tensor by tensor, as `atelier models merge` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from atelier.checkpoints.merging import LARGEST_WEIGHT, Recipe, check, merge
from atelier.errors import BadFile, BadInput, about
from atelier.request.events import Json
from atelier.request.resolved import ModelRef
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.workers.kind import Bench, Kind, Result, Task, Told
from atelier.runtime.workers.kinds.upscale import asked_of
from atelier.runtime.workers.places import without_places
from atelier.runtime.workers.stepwise import stepwise
from atelier.runtime.workers.writing import NewName, ready, target_of, written

BYTES_A_SECOND = 3e8
"""About what is written: costs are counted in seconds."""
Weight = Annotated[float, Field(ge=-LARGEST_WEIGHT, le=LARGEST_WEIGHT, allow_inf_nan=False)]
ROLES = ("first", "second", "third")


class Merge(BaseModel):
    """The fields of this kind. first * (1 - weight) + second * weight, or with a third model
    first + (second - third) * weight; blocks: a weight for what is in no block and for each block of the U-Net."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: str
    second: str
    third: str | None = None
    name: NewName
    weight: Weight = 0.5
    blocks: Annotated[tuple[Weight, ...], Field(max_length=128)] = ()
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    overwrite: bool = False

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.weight, self.blocks, self.dtype)


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput that names the field, UnknownName."""
    asked, library = asked_of(Merge, fields), bench.engine.library
    references = {role: _reference(role, name, bench) for role in ROLES if (name := getattr(asked, role)) is not None}
    paths = {role: Path(own.path) for role, own in references.items()}
    try:
        check(paths["first"], paths["second"], paths.get("third"), asked.recipe)
    except BadFile as error:
        raise BadInput(f"first, second: {without_places(str(error), library.folders)}") from error
    target_of(library, asked.name, "ldm", overwrite=asked.overwrite)
    models: dict[str, Json] = {
        role: cast("Json", json.loads(own.model_dump_json())) for role, own in references.items()
    }
    size = sum(path.stat().st_size for path in paths.values())
    return Settled({**asked.model_dump(mode="json"), **models}, cost=size / BYTES_A_SECOND)


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """Writes it whole or not at all, and tells what is there now."""
    references = {role: ModelRef.model_validate(own) for role in ROLES if (own := task.resolved.get(role)) is not None}
    asked = Merge.model_validate({**task.resolved, **{role: own.name for role, own in references.items()}})
    for reference in references.values():
        bench.engine.resources.checkpoint(reference)
    paths = {role: Path(own.path) for role, own in references.items()}
    target = target_of(bench.engine.library, asked.name, "ldm", overwrite=asked.overwrite)
    ready(target)
    done = yield from stepwise(
        lambda tell: merge(paths["first"], paths["second"], paths.get("third"), asked.recipe, target, tell),
        bench.stopping,
    )
    yield Result({**written(bench.engine.library, target), "merged": done.merged, "kept": [*done.kept]})


def _reference(role: str, name: str, bench: Bench) -> ModelRef:
    """Raises UnknownName, BadInput for a folder, BadFile; all of them know the field."""
    with about(role):
        found = bench.engine.library.find(name)
        if found.path.is_dir():
            raise BadInput(f"{role}: {found.name} is a folder: convert it to one file first, and merge that")
        return bench.engine.resources.refer(found.name, bench.engine.resources.open(found.path))


SPECS = (Kind("merge", settle, perform),)
