"""Captions for images that a model is to be taught: the nearest words of lists, as the model's own CLIP sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, cast

from pydantic import BaseModel, ConfigDict, Field

from atelier.checkpoints.image_text import has_image_text
from atelier.errors import BadInput, about
from atelier.request.events import Json
from atelier.request.resolved import ModelRef
from atelier.runtime.interrogating import built_in_lists
from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.workers.kind import Bench, Kind, Result, Task, Told
from atelier.runtime.workers.kinds.upscale import asked_of
from atelier.runtime.workers.names import uploads_in
from atelier.train.data.captioning import Composing, composed
from atelier.vision.interrogate import Interrogator

SECONDS = 0.2
"""About what an image takes: costs are counted in seconds."""


class Caption(BaseModel):
    """The fields of this kind. images: uploads; model: whose CLIP looks, None = the embedded one; top: words of each
    list; least: the smallest share of its list that a word needs; before: what every caption begins with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    model: str | None = None
    top: Annotated[int, Field(ge=1, le=100)] = 1
    least: Annotated[float, Field(ge=0, le=1)] = 0.0
    before: Annotated[str, Field(max_length=1000)] = ""

    @property
    def how(self) -> Composing:
        """Words are joined as the captions join them that the embedded model was trained on."""
        return Composing(self.top, self.least, " ", self.before)


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput, also for a model that cannot see images."""
    asked = asked_of(Caption, fields)
    with about("model"):
        found = bench.engine.library.find(asked.model)
        checkpoint = bench.engine.resources.open(found.path)
        if not has_image_text(checkpoint):
            raise BadInput(f"model {found.name}: has no image encoder that meets its text encoder: choose another")
        reference = bench.engine.resources.refer(found.name, checkpoint)
    for image in asked.images:
        bench.images.size(image)
    model = cast("Json", json.loads(reference.model_dump_json()))
    return Settled(
        {**asked.model_dump(mode="json"), "model": model},
        cost=SECONDS * len(asked.images),
        uploads=uploads_in(fields),
    )


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """Tells a caption for each image, in their order."""
    reference = ModelRef.model_validate(task.resolved["model"])
    asked = Caption.model_validate({**task.resolved, "model": reference.name})
    count = len(asked.images)
    yield JobProgress(0, count)
    looking = Interrogator(bench.engine.resources.checkpoint(reference), built_in_lists())
    captions: list[Json] = []
    for number, name in enumerate(asked.images, start=1):
        captions.append(composed(looking.ranked(bench.images.source(name).image), asked.how))
        yield JobProgress(number, count, share=number / count)
    yield Result({"captions": captions})


SPECS = (Kind("caption", settle, perform),)
