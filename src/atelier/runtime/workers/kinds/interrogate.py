"""Saying in words what images show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import cast

from pydantic import BaseModel, ConfigDict, Field

from atelier.checkpoints.image_text import has_image_text
from atelier.errors import BadInput
from atelier.request.events import Json
from atelier.request.resolved import ModelRef
from atelier.runtime.interrogating import built_in_lists
from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.workers.kind import Bench, Kind, Result, Task, Told
from atelier.runtime.workers.kinds.upscale import asked_of
from atelier.runtime.workers.names import uploads_in
from atelier.vision.interrogate import Interrogator


class Interrogate(BaseModel):
    """The fields of this kind. image: an upload; model: whose CLIP looks, None = the embedded one; top: how many words
    of each list are told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    model: str | None = None
    top: int = Field(default=3, ge=1, le=100)


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput, also for a model that cannot see images."""
    asked = asked_of(Interrogate, fields)
    found = bench.engine.library.find(asked.model)
    checkpoint = bench.engine.resources.open(found.path)
    if not has_image_text(checkpoint):
        raise BadInput(f"model {found.name}: has no image encoder that meets its text encoder: choose another")
    reference = bench.engine.resources.refer(found.name, checkpoint)
    bench.images.size(asked.image)
    resolved: dict[str, Json] = {
        "image": asked.image,
        "model": cast("Json", json.loads(reference.model_dump_json())),
        "top": asked.top,
    }
    return Settled(resolved, uploads=uploads_in(fields))


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """Tells the caption, the nearest word of each list, and the nearest ones with their shares."""
    yield JobProgress(0, 1)
    model = bench.engine.resources.checkpoint(ModelRef.model_validate(task.resolved["model"]))
    top, image = int(cast("int", task.resolved["top"])), bench.images.source(str(task.resolved["image"])).image
    ranked = Interrogator(model, built_in_lists()).ranked(image)
    words: dict[str, Json] = {
        name: [{"word": one.word, "share": round(one.share, 4)} for one in own[:top]] for name, own in ranked.items()
    }
    yield JobProgress(1, 1, share=1.0)
    yield Result({"caption": " ".join(own[0].word for own in ranked.values()), "words": words})


SPECS = (Kind("interrogate", settle, perform),)
