"""Teaching a model from images that come with the job. The run lies on disk, so that a retry goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, cast

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from atelier.checkpoints.embedded import EMBEDDED
from atelier.errors import BadInput, about
from atelier.request.events import ClassImageSaved, Failed, Json, Preview, Stepped, TrainingEvent, Validated, Warned
from atelier.request.resolved import ModelRef
from atelier.runtime.device import free_memory, training_dtype
from atelier.runtime.jobs.courses import course
from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.jobs.lease import Settled
from atelier.runtime.teaching import (
    Found,
    Planned,
    Wish,
    check_free,
    default_name,
    install,
    outlined,
    planned,
    taken,
    targets,
)
from atelier.runtime.workers.kind import Bench, Kind, Learned, Result, Stopped, Task, Told
from atelier.runtime.workers.kinds.upscale import asked_of
from atelier.runtime.workers.names import uploads_in
from atelier.runtime.workers.pictures import made_image
from atelier.train.loop import Placement
from atelier.train.runner import run_recipe
from atelier.train.teaching.presets import Subject, method
from atelier.weights.formats.atomic import new_file

IMAGES, RUN = "images", "run"
"""The folders of a job: the training images, and the run."""
COST = 1.6e-10
"""About how many seconds a core needs for a weight of the network, at each position of a latent, to learn from an
image: costs are counted in seconds."""
DRAWN = 25 * 2 / 3
"""To generate an image is as much work as to learn from so many: 25 steps of two calls, without the way back."""
KEPT = 300
"""Points of the curve that the result of a job holds."""
SAYING = 0.5
"""Seconds between two reports of how it goes."""
Name = Annotated[str, Field(max_length=100, pattern=r"^[^/\\\x00-\x1f]*$")]


Prompt = Annotated[str, Field(min_length=1, max_length=1000)]


class Teach(BaseModel):
    """The fields of this kind. images: uploads; captions: one for each, or none; the others as `runtime.teaching.Wish`
    has them, steps and rate in place of the usual ones. samples: prompts that are generated every `sample_every` steps;
    continues: the job that was stopped or failed, whose run goes on."""

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
    samples: Annotated[tuple[Prompt, ...], Field(max_length=4)] = ()
    sample_every: Annotated[int | None, Field(ge=1, le=100_000)] = None
    continues: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""

    def wish(self, data: Path, place: Path | None = None) -> Wish:
        """The images of the job lie in `data`, the model at `place`, or where it is found by its name; each step is
        logged, for the curve."""
        more = {
            "run.steps": self.steps,
            "optim.rate": self.rate,
            "samples": [*self.samples] or None,
            "run.validate_every": self.sample_every,
            "run.log_every": 1,
        }
        given = {key: value for key, value in more.items() if value is not None}
        name = self.name or default_name(self.method, self.word)
        return Wish(self.method, data, name, self.model, self.word, self.like, self.preset, self.prior, given, place)


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput. The images are looked at, the rest is checked as far as it can be without them."""
    asked, resources = asked_of(Teach, fields), bench.engine.resources
    method(asked.method)
    if asked.captions and len(asked.captions) != len(asked.images):
        raise BadInput(f"captions: there are {len(asked.captions)} for {len(asked.images)} images: give one for each")
    for image in asked.images:
        bench.images.size(image)
    with about("model"):
        found = bench.engine.library.find(asked.model)
        reference = resources.refer(found.name, resources.open(found.path))
    plan = outlined(asked.wish(Path(IMAGES), found.path), bench.engine.library, Found(len(asked.images)))
    _check_names(plan, bench)
    model = cast("Json", json.loads(reference.model_dump_json()))
    resolved: dict[str, Json] = {**asked.model_dump(mode="json"), "model": model}
    return Settled(resolved, cost=_cost(plan), uploads=uploads_in(fields))


def _check_names(plan: Planned, bench: Bench) -> None:
    """Raises BadFile for names of results that are too long for files."""
    with about("name"):
        for folder in bench.engine.library.folders[:1]:
            targets(plan, folder)


def forecast(fields: Mapping[str, Json], bench: Bench) -> Mapping[str, Json]:
    """What a job of these fields would do; in place of images it has `count`, how many there are. Raises BadInput."""
    count = int(cast("int", fields["count"]))
    images: list[Json] = ["x"] * count
    asked = asked_of(Teach, {**{key: value for key, value in fields.items() if key != "count"}, "images": images})
    surprises: list[str] = []
    plan = outlined(asked.wish(Path("images")), bench.engine.library, Found(count), surprises.append)
    _check_names(plan, bench)
    folders, run = bench.engine.library.folders, plan.recipe.run
    return {
        "name": plan.recipe.model_dump()["name"],
        "steps": run.steps,
        "batch": run.batch,
        "rate": plan.recipe.optim.rate,
        "size": plan.size,
        "class_images": _class_images(plan),
        "sample_every": run.validate_every,
        "samples": -(-run.steps // run.validate_every),
        "caption": cast("Json", plan.recipe.model_dump()["data"]["caption"]),
        "prompt": plan.prompt,
        "model": plan.model,
        "files": [f"{name}.safetensors" for name in plan.results],
        "taken": [*(taken(plan, folders[0]) if folders else ())],
        "warnings": [*surprises],
        "cost": _cost(plan),
    }


def _class_images(plan: Planned) -> int:
    """That the model generates before the first step."""
    data = cast("dict[str, Json]", plan.recipe.model_dump(mode="json")["data"])
    return int(cast("int", data.get("class_images") or 0))


def _cost(plan: Planned) -> float:
    """About how many seconds of a core it takes."""
    run, positions = plan.recipe.run, (plan.size // 8) ** 2
    looks = run.steps * run.batch + DRAWN * _class_images(plan)
    return COST * plan.weights * positions * looks


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    """Tells every step, shows what was generated in between, and in the end where the result lies and how to use it.

    Raises BadFile where the model is no longer the one that was settled.
    """
    reference, home = ModelRef.model_validate(task.resolved["model"]), task.place
    asked = Teach.model_validate({**task.resolved, "model": reference.name})
    bench.engine.resources.verified(reference)
    _take_over(asked, home)
    _write_images(asked, bench, home / IMAGES)
    surprises: list[str] = []
    plan = planned(asked.wish(home / IMAGES, Path(reference.path)), bench.engine.library, surprises.append)
    yield from map(Warned, surprises)
    folder = bench.engine.library.folders[0]
    check_free(plan, home / RUN, folder, overwrite=asked.overwrite)
    course = yield from _trained(plan, bench, home / RUN, accept_changes=bool(asked.continues))
    made = install(plan, home / RUN, folder, overwrite=asked.overwrite)
    use: dict[str, Json] = {"prompt": plan.prompt, "model": plan.model}
    files = cast("list[Json]", [path.name for path in made])
    yield Result({"files": files, "prompt": plan.uses, "use": use, "course": course})


def _take_over(asked: Teach, home: Path) -> None:
    """Makes the run of the job that this one continues its own, once; where that is not kept it begins anew."""
    before = home.parent / asked.continues
    if asked.continues and before.is_dir() and not home.exists():
        before.rename(home)


def _write_images(asked: Teach, bench: Bench, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(asked.images):
        path = folder / f"{number:04d}.png"
        if asked.captions:
            path.with_suffix(".txt").write_text(asked.captions[number], encoding="utf-8")
        if not path.exists():
            with new_file(path) as file:
                bench.images.source(name).image.save(file, format="PNG")


@dataclass(slots=True)
class _Course:
    """What was seen of a training: the points that were not told yet, and all of them."""

    began: float = field(default_factory=time.monotonic)
    told: float = 0.0
    first: int | None = None
    left: float | None = None
    points: list[tuple[int, float]] = field(default_factory=list["tuple[int, float]"])
    checks: list[tuple[int, float]] = field(default_factory=list["tuple[int, float]"])
    new: int = 0
    new_checks: int = 0

    def stepped(self, step: int, total: int, loss: float) -> None:
        self.points.append((step, loss))
        if self.first is None:
            self.first, self.began = step, time.monotonic()
        else:
            self.left = (time.monotonic() - self.began) / (step - self.first) * (total - step)

    def news(self, *, at_once: bool = False) -> Iterator[Learned]:
        """What is new, unless something was told a moment ago."""
        if not at_once and time.monotonic() - self.told < SAYING:
            return
        points, checks = self.points[self.new :], self.checks[self.new_checks :]
        self.told, self.new, self.new_checks = time.monotonic(), len(self.points), len(self.checks)
        if points or checks:
            yield Learned(tuple(points), tuple(checks), self.left)


def _trained(plan: Planned, bench: Bench, run: Path, *, accept_changes: bool) -> Generator[Told, None, dict[str, Json]]:
    """The whole curve, also of earlier attempts. Raises Stopped where the job is to stop: the run has saved where it
    is. The models that are in memory make room first."""
    device = bench.engine.resources.device
    bench.engine.resources.cache.clear()
    placement = Placement(device, training_dtype(device, plan.recipe.run.dtype), free=free_memory(device))
    events = run_recipe(plan.spec, plan.recipe, placement, run, bench.stopping, accept_changes=accept_changes)
    seen = _Course()
    with closing(cast("Generator[TrainingEvent]", events)) as happening:
        for event in happening:
            yield from _happened(event, plan, seen, bench, run)
    yield from seen.news(at_once=True)
    return course(run.parent, KEPT)


def _happened(event: TrainingEvent, plan: Planned, seen: _Course, bench: Bench, run: Path) -> Iterator[Told]:
    match event:
        case ClassImageSaved(done, total):
            yield JobProgress(0, plan.recipe.run.steps, done - 1, total)
        case Stepped(step, total, losses):
            yield JobProgress(step, total, share=step / total)
            seen.stepped(step, total, losses["loss"])
            yield from seen.news()
        case Validated(step, numbers):
            if "fixed" in numbers:
                seen.checks.append((step, numbers["fixed"]))
            yield from seen.news(at_once=True)
            yield from _look(run, step)
        case Failed(error):
            if bench.stopping():
                raise Stopped("told to stop") from error
            raise error
        case _:
            pass


def _look(run: Path, step: int) -> Iterator[Told]:
    """What was generated after a step: an image of the job, whose index is that step."""
    shown = run / "samples" / f"images-{step:08d}.png"
    if shown.is_file():
        with Image.open(shown) as image:
            sample = image.convert("RGB")
        yield Preview(0, sample)
        yield made_image(sample, "", step, None)


SPECS = (Kind("teach", settle, perform, stops_itself=True),)
