"""Writing a model in another layout or precision, as `atelier models convert` does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.probing import settled as probed
from atelier.errors import BadInput, about
from atelier.request.events import Json
from atelier.request.resolved import ModelRef
from atelier.runtime.converting import Conversion, check_whole, convert
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.resources import Others
from atelier.runtime.targets import Layout
from atelier.runtime.workers.kind import Bench, Kind, Result, Task, Told
from atelier.runtime.workers.kinds.upscale import asked_of
from atelier.runtime.workers.stepwise import stepwise
from atelier.runtime.workers.writing import NewName, ready, target_of, written
from atelier.weights.formats.safetensors import Tell

BYTES_A_SECOND = 3e8
"""About what is written: costs are counted in seconds."""


class Convert(BaseModel):
    """The fields of this kind. model: its name; name: of what is written; layout: one file or a diffusers folder; vae:
    whose autoencoder it gets; ema: whether the running mean of its weights is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    name: NewName
    layout: Layout = "ldm"
    dtype: Literal["fp32", "fp16", "bf16"] | None = None
    vae: str | None = None
    ema: bool = False
    overwrite: bool = False

    @property
    def conversion(self) -> Conversion:
        return Conversion(self.layout, self.dtype, overwrite=self.overwrite)


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput, UnknownName; BadFile for a model that cannot be read."""
    asked, library = asked_of(Convert, fields), bench.engine.library
    if asked.vae is not None and asked.ema:
        raise BadInput("vae: it does not go with ema; convert twice")
    with about("model"):
        found = library.find(asked.model)
        if asked.ema:
            open_checkpoint(found.path, ema=True)
    with about("vae"):
        others = Others(vae=None if asked.vae is None else library.autoencoder(asked.vae))
        model = bench.engine.resources.open(found.path, others)
    target_of(library, asked.name, asked.layout, overwrite=asked.overwrite)
    reference = bench.engine.resources.refer(found.name, model, others)
    resolved = {**asked.model_dump(), "model": cast("Json", json.loads(reference.model_dump_json()))}
    size = sum(file.stat().st_size for file in model.files)
    return Settled(resolved, cost=size / BYTES_A_SECOND)


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """Writes it whole or not at all, and tells what is there now."""
    reference = ModelRef.model_validate(task.resolved["model"])
    asked = Convert.model_validate({**task.resolved, "model": reference.name})
    target = target_of(bench.engine.library, asked.name, asked.layout, overwrite=asked.overwrite)
    model = _model(reference, asked, bench)
    ready(target)

    def write(tell: Tell) -> None:
        check_whole(model, lambda _done, _total: tell(0, 1))
        convert(model, target, asked.conversion, tell)

    yield from stepwise(write, bench.stopping)
    yield Result({**written(bench.engine.library, target), "left_out": [*model.ignored]})


def _model(reference: ModelRef, asked: Convert, bench: Bench) -> Checkpoint:
    """The model as it was when the job was accepted. Raises BadFile."""
    found = bench.engine.resources.checkpoint(reference)
    return probed(open_checkpoint(Path(reference.path), ema=True)) if asked.ema else found


SPECS = (Kind("convert", settle, perform),)
