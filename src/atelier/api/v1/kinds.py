"""Jobs of other kinds than generating: enlarging images, drawing hints, saying what one shows, and teaching
a model."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from fastapi import APIRouter
from pydantic import Field

from atelier.api.caller import Admin, Behind, Caller
from atelier.api.uploads import submitted, uploaded
from atelier.api.v1.jobs import IdempotencyKey
from atelier.api.v1.named import Named
from atelier.api.v1.shapes import JobShape, job_shape
from atelier.request.events import Json
from atelier.runtime.jobs.job import NewJob

routes = APIRouter(tags=["jobs"])
MANY = 64
"""Images of one job."""
Picture = Annotated[str, Field(description="What an upload is called, or the bytes of an image in base64.")]
Name = Annotated[str, Field(max_length=4096)]
Side = Annotated[int, Field(ge=1, le=65_536)]


class UpscaleFields(Named):
    """upscaler, upscaler_2: by name; visibility: the share of the second. scale: a factor, or width and height: a size
    that images are made to cover, what is too much cut off."""

    images: Annotated[list[Picture], Field(min_length=1, max_length=MANY)]
    upscaler: Name = "Lanczos"
    upscaler_2: Name | None = None
    visibility: Annotated[float, Field(ge=0, le=1)] = 0.5
    scale: Annotated[float, Field(gt=0, le=16)] = 2.0
    width: Side | None = None
    height: Side | None = None


class InterrogateFields(Named):
    """model: whose CLIP looks, None = the embedded one; top: how many words of each list are told."""

    image: Picture
    model: Name | None = None
    top: Annotated[int, Field(ge=1, le=100)] = 3


class CaptionFields(Named):
    """model: whose CLIP looks, null = the embedded one; top: words of each list; least: the smallest share of its list
    that a word needs; before: what every caption begins with."""

    images: Annotated[list[Picture], Field(min_length=1, max_length=MANY)]
    model: Name | None = None
    top: Annotated[int, Field(ge=1, le=100)] = 1
    least: Annotated[float, Field(ge=0, le=1)] = 0.0
    before: Annotated[str, Field(max_length=1000)] = ""


class AnnotateFields(Named):
    """controls: as in requests, each with an upload, `canny:upload:…` or `depth:upload:… resolution=512`: a hint is
    drawn of each, in this order; type, annotator, resolution, resize and the annotator's options count. width, height:
    what hints are brought to, None = as they are drawn. model: beside which the networks of annotators are kept."""

    controls: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=MANY)]
    width: Side | None = None
    height: Side | None = None
    model: Name | None = None


class TeachFields(Named):
    """images: of what is to be learned; captions: one for each, or none. method: lora, loha, lokr, dora, dreambooth,
    inversion, … (docs/teaching.md); word: what stands for it in prompts; like: a known word for what it is; name: of
    the file. prior: images of the class that the model generates first. samples: prompts that are generated every
    sample_every steps."""

    images: Annotated[list[Picture], Field(min_length=1, max_length=MANY)]
    captions: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(max_length=MANY, default_factory=list)]
    method: Name = "lora"
    model: Name = "embedded"
    word: Annotated[str, Field(min_length=1, max_length=100)] = "zwx"
    name: Annotated[str, Field(max_length=100)] = ""
    like: Annotated[str, Field(max_length=100)] = ""
    preset: Literal["thing", "face", "style"] = "thing"
    prior: Annotated[int | None, Field(ge=0, le=1000)] = None
    steps: Annotated[int | None, Field(ge=1, le=100_000)] = None
    rate: Annotated[float | None, Field(gt=0, le=10)] = None
    overwrite: bool = False
    samples: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=4, default_factory=list)
    ]
    sample_every: Annotated[int | None, Field(ge=1, le=100_000)] = None


@routes.post("/v1/jobs/upscale", status_code=202)
async def upscale(
    body: UpscaleFields, service: Behind, owner: Caller, idempotency_key: IdempotencyKey = None
) -> JobShape:
    """Asks for images to be enlarged."""
    fields = body.model_dump(exclude_unset=True)
    images = [await uploaded(service, owner, image, f"images.{at}") for at, image in enumerate(body.images)]
    fields["images"] = cast("list[Json]", images)
    return job_shape(await submitted(service, NewJob("upscale", fields, 0, idempotency_key), owner))


@routes.post("/v1/jobs/annotate", status_code=202)
async def annotate(
    body: AnnotateFields, service: Behind, owner: Caller, idempotency_key: IdempotencyKey = None
) -> JobShape:
    """Asks for what annotators draw of images, to see what a control would see."""
    fields = body.model_dump(exclude_unset=True)
    return job_shape(await submitted(service, NewJob("annotate", fields, 0, idempotency_key), owner))


@routes.post("/v1/jobs/interrogate", status_code=202)
async def interrogate(
    body: InterrogateFields, service: Behind, owner: Caller, idempotency_key: IdempotencyKey = None
) -> JobShape:
    """Asks what an image shows: the job's `result` tells."""
    fields = {**body.model_dump(exclude_unset=True), "image": await uploaded(service, owner, body.image, "image")}
    return job_shape(await submitted(service, NewJob("interrogate", fields, 0, idempotency_key), owner))


@routes.post("/v1/jobs/caption", status_code=202)
async def caption(
    body: CaptionFields, service: Behind, owner: Caller, idempotency_key: IdempotencyKey = None
) -> JobShape:
    """Asks for captions of images that a model is to be taught: the job's `result` has one for each, in their order."""
    fields = body.model_dump(exclude_unset=True)
    images = [await uploaded(service, owner, image, f"images.{at}") for at, image in enumerate(body.images)]
    fields["images"] = cast("list[Json]", images)
    return job_shape(await submitted(service, NewJob("caption", fields, 0, idempotency_key), owner))


@routes.post("/v1/jobs/teach", status_code=202)
async def teach(body: TeachFields, service: Behind, owner: Admin, idempotency_key: IdempotencyKey = None) -> JobShape:
    """Asks for a model to be taught; what it learned is named in prompts as the job's `result` says. Everybody can use
    it then, so that only admins can ask."""
    fields = body.model_dump(exclude_unset=True)
    images = [await uploaded(service, owner, image, f"images.{at}") for at, image in enumerate(body.images)]
    fields["images"] = cast("list[Json]", images)
    return job_shape(await submitted(service, NewJob("teach", fields, 0, idempotency_key), owner))
