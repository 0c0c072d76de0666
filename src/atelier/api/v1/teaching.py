"""Teaching: what there is to choose from, what a job would do, how one goes, and going on with one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from atelier.api.caller import Admin, Behind, Caller, admin_of
from atelier.api.v1.ids import JobId
from atelier.api.v1.kinds import MANY, TeachFields
from atelier.api.v1.shapes import JobShape, Shape, job_shape
from atelier.train.teaching.presets import METHODS, SUBJECTS

routes = APIRouter(tags=["teaching"])
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


class MethodShape(Shape):
    """A way of teaching. makes: a LoRA, a whole model, a word, or several of them; rates: the usual learning rate of
    published models and of small ones."""

    name: str
    help: str
    makes: list[str]
    rates: Pair


class TeachingShape(Shape):
    """methods: how; presets: what kind of thing; images: at most so many."""

    methods: list[MethodShape]
    presets: list[str]
    images: int


class ForecastShape(Shape):
    """What a job would do. size: of what is learned from, in pixels; class_images: that are generated first;
    samples: how often prompts are generated, every sample_every steps; caption: of images without one; prompt, model:
    how the result will be used; files: that will be there, taken: those of them that are there already; seconds: about
    how long it will take, measured: on this server, or else reckoned for one core."""

    name: str
    steps: int
    batch: int
    rate: float
    size: int
    class_images: int
    sample_every: int
    samples: int
    caption: str
    prompt: str
    model: str
    files: list[str]
    taken: list[str]
    warnings: list[str]
    seconds: float
    measured: bool


class CourseShape(Shape):
    """Pairs of step and loss. points: of each step, or means of neighbours where there are more than 1000; checks: of
    some training images at noise that is always the same. Samples are images of the job, whose index is their step."""

    points: list[Pair]
    checks: list[Pair]


class ForecastFields(TeachFields):
    """count: how many images there will be, in their place."""

    images: Annotated[list[str], Field(max_length=0, default_factory=list)]
    count: Annotated[int, Field(ge=1, le=MANY)]


@routes.get("/v1/teaching")
async def teaching(_service: Behind, _owner: Caller) -> TeachingShape:
    """The methods and presets."""
    methods = [
        MethodShape(name=own.name, help=own.help, makes=_makes(own.recipe, has_word=own.has_word), rates=[*own.rates])
        for own in METHODS.values()
    ]
    return TeachingShape(methods=methods, presets=[*SUBJECTS], images=MANY)


@routes.post("/v1/teaching/forecast")
async def forecast(body: ForecastFields, service: Behind, _owner: Admin) -> ForecastShape:
    """What a job of these fields would do, before it is asked for."""
    fields = body.model_dump(exclude_unset=True, exclude={"images", "captions"})
    return ForecastShape.model_validate(await service.forecast(fields))


@routes.get("/v1/jobs/{job_id}/course")
async def course(job_id: JobId, service: Behind, owner: Caller) -> CourseShape:
    """How a job that teaches went until now, whole; both curves are empty for other jobs. Its event `learned` tells of
    what comes after."""
    return CourseShape.model_validate(await service.course(job_id, owner))


@routes.post("/v1/jobs/{job_id}/resume", status_code=202)
async def resume(job_id: JobId, service: Behind, owner: Caller) -> JobShape:
    """Goes on with a job that teaches where it was stopped or failed, as another job with the same fields. What it
    needs is kept for a day. For admins, as teaching is."""
    await service.job(job_id, owner)  # what belongs to another is not there, whoever asks
    await admin_of(owner)
    return job_shape(await service.resume(job_id, owner))


def _makes(recipe: str, *, has_word: bool) -> list[str]:
    files = {"lora": ["lora"], "dreambooth": ["model"], "inversion": []}[recipe]
    return [*files, *(["word"] if has_word else [])]
