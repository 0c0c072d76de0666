"""Teaching a model from images that come with the job. The run lies on disk, so that a retry goes on where it was."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, cast

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from atelier.checkpoints.embedded import EMBEDDED
from atelier.errors import BadInput
from atelier.request.events import ClassImageSaved, Failed, Json, Preview, Stepped, TrainingEvent, Validated, Warned
from atelier.runtime.device import free_memory, training_dtype
from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.teaching import Planned, Wish, check_free, default_name, install, planned
from atelier.runtime.workers.kind import Bench, Kind, Result, Stopped, Task, Told
from atelier.runtime.workers.kinds.upscale import asked_of
from atelier.runtime.workers.names import uploads_in
from atelier.train.loop import Placement
from atelier.train.runner import run_recipe
from atelier.train.teaching.base import opened
from atelier.train.teaching.presets import Subject, method
from atelier.weights.formats.atomic import new_file

IMAGES, RUN = "images", "run"
"""The folders of a job: the training images, and the run."""
STEP_COST = 5.0
"""About how many seconds a core needs for a step of a small model: costs are counted in seconds."""
Name = Annotated[str, Field(max_length=100, pattern=r"^[^/\\\x00-\x1f]*$")]


class Teach(BaseModel):
    """The fields of this kind. images: uploads; captions: one for each, or none; the others as `runtime.teaching.Wish`
    has them, steps and rate in place of the usual ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    captions: tuple[str, ...] = ()
    method: str = "lora"
    model: str = EMBEDDED
    word: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^/\\\x00-\x1f]+$")] = "zwx"
    name: Name = ""
    like: Name = ""
    preset: Subject = "thing"
    prior: Annotated[int | None, Field(ge=0, le=1000)] = None
    steps: Annotated[int | None, Field(ge=1, le=100_000)] = None
    rate: Annotated[float | None, Field(gt=0, le=10)] = None
    overwrite: bool = False

    def wish(self, data: Path) -> Wish:
        """The images of the job lie in `data`."""
        more = {"run.steps": self.steps, "optim.rate": self.rate}
        given = {key: value for key, value in more.items() if value is not None}
        name = self.name or default_name(self.method, self.word)
        return Wish(self.method, data, name, self.model, self.word, self.like, self.preset, self.prior, given)


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput. The images are looked at, the rest is checked as far as it can be without them."""
    asked = asked_of(Teach, fields)
    method(asked.method)
    if asked.captions and len(asked.captions) != len(asked.images):
        raise BadInput(f"captions: there are {len(asked.captions)} for {len(asked.images)} images: give one for each")
    for image in asked.images:
        bench.images.size(image)
    if asked.model != EMBEDDED:
        opened(str(bench.engine.library.find(asked.model).path))
    steps = asked.steps or 30 * len(asked.images)
    resolved: dict[str, Json] = {**asked.model_dump(mode="json")}
    return Settled(resolved, cost=STEP_COST * steps, uploads=uploads_in(fields))


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """Tells every step, shows what was generated in between, and in the end where the result lies and how to use it."""
    asked, home = Teach.model_validate(dict(task.resolved)), task.place
    _write_images(asked, bench, home / IMAGES)
    surprises: list[str] = []
    plan = planned(asked.wish(home / IMAGES), bench.engine.library, surprises.append)
    yield from map(Warned, surprises)
    folder = bench.engine.library.folders[0]
    check_free(plan, home / RUN, folder, overwrite=asked.overwrite)
    yield from _trained(plan, bench, home / RUN)
    made = install(plan, home / RUN, folder, overwrite=asked.overwrite)
    yield Result({"files": cast("list[Json]", [path.name for path in made]), "prompt": plan.uses})


def _write_images(asked: Teach, bench: Bench, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(asked.images):
        path = folder / f"{number:04d}.png"
        if asked.captions:
            path.with_suffix(".txt").write_text(asked.captions[number], encoding="utf-8")
        if not path.exists():
            with new_file(path) as file:
                bench.images.source(name).image.save(file, format="PNG")


def _trained(plan: Planned, bench: Bench, run: Path) -> Iterator[Told]:
    """Raises Stopped where the job is to stop: the run has saved where it is."""
    device = bench.engine.resources.device
    placement = Placement(device, training_dtype(device, plan.recipe.run.dtype), free=free_memory(device))
    course = run_recipe(plan.spec, plan.recipe, placement, run, bench.stopping)
    with closing(cast("Generator[TrainingEvent]", course)) as events:
        for event in events:
            match event:
                case ClassImageSaved():
                    yield JobProgress(0, plan.recipe.run.steps)
                case Stepped(step, total):
                    yield JobProgress(step, total, share=step / total)
                case Validated(step):
                    yield from _look(run, step)
                case Failed(error):
                    if bench.stopping():
                        raise Stopped("told to stop") from error
                    raise error
                case _:
                    pass


def _look(run: Path, step: int) -> Iterator[Told]:
    shown = run / "samples" / f"images-{step:08d}.png"
    if shown.is_file():
        with Image.open(shown) as image:
            yield Preview(0, image.convert("RGB"))


SPECS = (Kind("teach", settle, perform),)
