"""Jobs of other kinds than generating: enlarging images, and saying what one shows."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter
from pydantic import Field

from atelier.api.caller import Behind, Caller
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


@routes.post("/v1/jobs/upscale", status_code=202)
async def upscale(
    body: UpscaleFields, service: Behind, owner: Caller, idempotency_key: IdempotencyKey = None
) -> JobShape:
    """Asks for images to be enlarged."""
    fields = body.model_dump(exclude_unset=True)
    images = [await uploaded(service, owner, image, f"images.{at}") for at, image in enumerate(body.images)]
    fields["images"] = cast("list[Json]", images)
    return job_shape(await submitted(service, NewJob("upscale", fields, 0, idempotency_key), owner))


@routes.post("/v1/jobs/interrogate", status_code=202)
async def interrogate(
    body: InterrogateFields, service: Behind, owner: Caller, idempotency_key: IdempotencyKey = None
) -> JobShape:
    """Asks what an image shows: the job's `result` tells."""
    fields = {**body.model_dump(exclude_unset=True), "image": await uploaded(service, owner, body.image, "image")}
    return job_shape(await submitted(service, NewJob("interrogate", fields, 0, idempotency_key), owner))
