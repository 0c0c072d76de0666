"""Files of weights: what lies in the folders of models, and jobs that look into them or make others of them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import Field, JsonValue

from atelier.api.caller import Admin, Behind, Caller
from atelier.api.uploads import submitted
from atelier.api.v1.ids import opaque
from atelier.api.v1.jobs import IdempotencyKey
from atelier.api.v1.kinds import Name
from atelier.api.v1.named import Named
from atelier.api.v1.shapes import JobShape, Page, Shape, job_shape
from atelier.runtime.jobs.job import NewJob
from atelier.runtime.workers.filenames import NAME

routes = APIRouter(tags=["models"])
NewName = Annotated[str, Field(min_length=1, max_length=100, pattern=NAME, description="Of the new file; no path.")]
Precision = Literal["fp32", "fp16", "bf16"]
Weight = Annotated[float, Field(ge=-10, le=10)]
FileId = Annotated[str, Path(description="What GET /v1/weights lists.", max_length=64)]


class WeightsShape(Shape):
    """A file or folder of weights. id: opaque; name: what requests call it; file: below its folder of models; kind:
    checkpoint, lora, embedding, controlnet, …; size: pixels along a side; changed: seconds since 1970."""

    id: str
    name: str
    file: str
    kind: str
    family: str | None
    variant: str | None
    title: str
    dtype: str
    bytes: int
    parameters: int
    size: int | None
    supported: bool
    problem: str | None
    changed: float


class InspectFields(Named):
    """id: of GET /v1/weights; check: whether all numbers are looked at, beside the hashes."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{24}$")]
    check: bool = False


class ConvertFields(Named):
    """model: of GET /v1/models; name: of the new one; layout: one file (ldm) or a diffusers folder; dtype: null as it
    is; vae: whose autoencoder it gets; ema: whether the running mean of the weights is taken."""

    model: Name
    name: NewName
    layout: Literal["ldm", "diffusers"] = "ldm"
    dtype: Precision | None = None
    vae: Name | None = None
    ema: bool = False
    overwrite: bool = False


class MergeFields(Named):
    """first * (1 - weight) + second * weight; with a third model first + (second - third) * weight. blocks: a weight
    for what is in no block, then one for each block of the U-Net; name: of the new model."""

    first: Name
    second: Name
    third: Name | None = None
    name: NewName
    weight: Weight = 0.5
    blocks: Annotated[list[Weight], Field(max_length=128, default_factory=list)]
    dtype: Precision | None = None
    overwrite: bool = False


@routes.get("/v1/weights")
async def weights(service: Behind, _owner: Caller) -> Page[WeightsShape]:
    """Every file of weights in the folders of models, and the embedded model first."""
    return Page[WeightsShape](data=[WeightsShape.model_validate(own) for own in await service.weights()])


@routes.get("/v1/weights/{file_id}")
async def weight(file_id: FileId, service: Behind, _owner: Caller) -> dict[str, JsonValue]:
    """All that the headers of a file say: what it is, its parts, its licence, what it was made from and trained on."""
    return dict(await service.weight(opaque(file_id)))


@routes.post("/v1/jobs/inspect", status_code=202)
async def inspect(
    body: InspectFields, service: Behind, owner: Admin, idempotency_key: IdempotencyKey = None
) -> JobShape:
    """Asks for what only reading a whole file tells: the job's `result` has its hashes, and with `check` the names of
    tensors that are not finite or nothing but zeros."""
    return job_shape(await submitted(service, NewJob("inspect", _given(body), 0, idempotency_key), owner))


@routes.post("/v1/jobs/convert", status_code=202)
async def convert(
    body: ConvertFields, service: Behind, owner: Admin, idempotency_key: IdempotencyKey = None
) -> JobShape:
    """Asks for a model in another layout or precision, in the first folder of models."""
    return job_shape(await submitted(service, NewJob("convert", _given(body), 0, idempotency_key), owner))


@routes.post("/v1/jobs/merge", status_code=202)
async def merge(body: MergeFields, service: Behind, owner: Admin, idempotency_key: IdempotencyKey = None) -> JobShape:
    """Asks for a mixture of models of one family, in the first folder of models."""
    return job_shape(await submitted(service, NewJob("merge", _given(body), 0, idempotency_key), owner))


def _given(body: Named) -> dict[str, JsonValue]:
    return body.model_dump(exclude_unset=True)
