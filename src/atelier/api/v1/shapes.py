"""What the native API answers."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

from atelier.api.service import ModelEntry
from atelier.api.v1.named import Named
from atelier.runtime.jobs.job import Job, JobImage, State

T = TypeVar("T")


class Shape(BaseModel):
    """Read from our frozen data by attribute."""

    model_config = ConfigDict(from_attributes=True, json_schema_serialization_defaults_required=True)


class Page(Shape, Generic[T]):
    """A list. has_more: whether there is another page, behind the last entry of this one."""

    data: list[T]
    has_more: bool = False


class ImageShape(Shape):
    """An image of a job. url: where its file is."""

    id: str
    index: int
    seed: int | None
    width: int
    height: int
    format: str
    sha256: str
    infotext: str
    url: str


class ProgressShape(Shape):
    """done of total sampler steps; image of images (0-based); share of all the work, 0 to 1."""

    done: int
    total: int
    image: int
    images: int
    share: float


class JobErrorShape(Shape):
    """Why a job failed."""

    kind: str
    message: str


class JobShape(Shape):
    """A job. Times are seconds since 1970."""

    id: str
    kind: str
    state: State
    priority: int
    attempt: int
    created: float
    started: float | None
    ended: float | None
    position: int | None
    expected: float | None
    progress: ProgressShape
    images: list[ImageShape]
    warnings: list[str]
    error: JobErrorShape | None
    asked: dict[str, JsonValue]
    resolved: dict[str, JsonValue] | None
    result: dict[str, JsonValue] | None


class QueueShape(Shape):
    """running: in the order in which they started; waiting: in that in which they will."""

    running: list[JobShape]
    waiting: list[JobShape]


class ModelShape(Shape):
    """A model, as OpenAI lists them, and what else we know. default: used where none is named."""

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "atelier"
    family: str
    variant: str
    file: str
    sha256: str | None
    loaded: bool
    default: bool


class ModelList(Shape):
    """OpenAI's list."""

    object: str = "list"
    data: list[ModelShape]


class UploadShape(Shape):
    """id: what fields that hold an image take."""

    id: str
    bytes: int


class ImageTextShape(Shape):
    """What an image says of itself. fields: the request that its infotext asks for."""

    width: int
    height: int
    format: str
    infotext: str
    items: dict[str, str]
    fields: dict[str, JsonValue]


class CanvasEntryShape(Shape):
    """A canvas in a list. revision: its ETag. Times are seconds since 1970."""

    id: str
    name: str
    revision: int
    created: float
    changed: float


class CanvasShape(CanvasEntryShape):
    """With what was kept."""

    document: dict[str, JsonValue]


class SamplerShape(Shape):
    name: str
    aliases: list[str]
    scheduler: str


class SchedulerShape(Shape):
    name: str
    label: str
    aliases: list[str]


class NamedShape(Shape):
    """more: what else is known of it."""

    name: str
    file: str
    more: dict[str, JsonValue]


class ControlTypeShape(Shape):
    """title: what A1111 calls it; annotators: that draw it, the usual one first."""

    name: str
    title: str
    annotators: list[str]


class OptionShape(Shape):
    """A number that changes what an annotator draws; step: how finely it is set in a form."""

    name: str
    default: float
    low: float
    high: float
    step: float
    help: str


class AnnotatorShape(Shape):
    """aliases: other names that are read; file: of its network, null where it needs none; there: whether that is
    here; sized: whether `resolution` means anything to it."""

    name: str
    aliases: list[str]
    help: str
    options: list[OptionShape]
    file: str | None
    there: bool
    sized: bool


class ControlsShape(Shape):
    """networks: for `model=` in `controls`, `references` and `faces`, `more.kind` says for which (hint, reference,
    face, unknown); types: of controls; annotators: for `annotator=`."""

    networks: list[NamedShape]
    types: list[ControlTypeShape]
    annotators: list[AnnotatorShape]


class StyleShape(Shape):
    name: str
    prompt: str
    negative_prompt: str


class Status(Shape):
    status: str


class Capabilities(Shape):
    """request: the JSON schema of what POST /v1/jobs takes. limits: of the server, by name."""

    version: str
    request: dict[str, JsonValue]
    limits: dict[str, float]
    image_formats: list[str]


class Load(Named):
    """model: a name of GET /v1/models."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"model": "embedded"}]})

    model: str


class ErrorDetail(Shape):
    """message: one line. param: the field, where it is one. code: the name of the error."""

    message: str
    type: str
    param: str | None
    code: str
    request_id: str


class ErrorShape(Shape):
    error: ErrorDetail


def image_shape(image: JobImage) -> ImageShape:
    return ImageShape.model_validate({**_plain(image), "url": f"/v1/images/{image.id}"})


def job_shape(job: Job) -> JobShape:
    """A job without whose it is: only the owner sees it."""
    fields = {name: getattr(job, name) for name in JobShape.model_fields if name != "images"}
    return JobShape.model_validate({**fields, "images": [image_shape(image) for image in job.images]})


def model_shape(entry: ModelEntry, default: str) -> ModelShape:
    fields = {name: getattr(entry, name) for name in ("family", "variant", "file", "sha256", "loaded")}
    return ModelShape.model_validate({**fields, "id": entry.name, "default": entry.name == default})


def _plain(image: JobImage) -> dict[str, object]:
    return {name: getattr(image, name) for name in ImageShape.model_fields if name != "url"}
