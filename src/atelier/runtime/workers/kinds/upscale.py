"""Enlarging images: what A1111's Extras tab does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from atelier.errors import BadInput, UnknownName, about
from atelier.pipeline.resources import UPSCALER
from atelier.request.events import Json
from atelier.request.infotext.image import TEXT_KEY
from atelier.request.resolved import InFile, ModelRef, NamedUpscaler, NoFile
from atelier.runtime.jobs.job import JobProgress, TooLarge
from atelier.runtime.jobs.lease import MadeImage, Settled
from atelier.runtime.upscalers import UpscalerFile, UpscalerNames
from atelier.runtime.upscaling import Scale, Upscaling, blended, encoded_after, infotext
from atelier.runtime.workers.kind import Bench, Kind, Stopped, Task, Told
from atelier.runtime.workers.names import uploads_in
from atelier.runtime.workers.pictures import made_image
from atelier.vision.catalogue import filters
from atelier.vision.upscaling import Upscaler

M = TypeVar("M", bound=BaseModel)
PIXELS_A_SECOND = 1_000_000
"""About what a core enlarges in a second with a network: costs are counted in seconds."""


class Upscale(BaseModel):
    """The fields of this kind.

    images: uploads, each enlarged; image: the same for one; upscaler, upscaler_2: by name, visibility: the share of the
    second; scale: a factor, or width and height: a size that images are made to cover, what is too much cut off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str | None = None
    images: tuple[str, ...] = ()
    upscaler: str = "Lanczos"
    upscaler_2: str | None = None
    visibility: float = Field(default=0.5, ge=0, le=1)
    scale: float = 2.0
    width: int | None = None
    height: int | None = None

    @property
    def all_images(self) -> tuple[str, ...]:
        return self.images if self.image is None else (self.image, *self.images)

    @property
    def wanted(self) -> Scale:
        """Raises BadInput."""
        if (self.width is None) != (self.height is None):
            raise BadInput("width, height: a size needs both; or give scale")
        if self.width is None or self.height is None:
            return Scale.checked(by=self.scale)
        return Scale.checked(to=(self.width, self.height))


def settle(fields: Mapping[str, Json], bench: Bench) -> Settled:
    """Raises BadInput, UnknownName, TooLarge."""
    asked = asked_of(Upscale, fields)
    if not asked.all_images:
        raise BadInput("image: nothing to enlarge: name an upload")
    if len(asked.all_images) > bench.most.images:
        raise TooLarge(
            f"images: {len(asked.all_images)} are given, at most {bench.most.images} are enlarged in one job"
        )
    names = {"upscaler": asked.upscaler}
    if asked.upscaler_2 not in {None, "None"}:
        names["upscaler_2"] = str(asked.upscaler_2)
    known = UpscalerNames(bench.engine.library)
    settled = [_named(field, name, known, bench).model_dump(mode="json") for field, name in names.items()]
    pixels = [_pixels(asked.wanted, bench.images.size(name), bench) for name in asked.all_images]
    resolved: dict[str, Json] = {
        "images": list(asked.all_images),
        "upscalers": cast("list[Json]", settled),
        "visibility": asked.visibility,
        "by": asked.wanted.by,
        "to": None if asked.wanted.to is None else list(asked.wanted.to),
    }
    return Settled(resolved, cost=sum(pixels) / PIXELS_A_SECOND, uploads=uploads_in(fields))


def perform(task: Task, bench: Bench) -> Iterator[Told]:
    names, there = cast("list[str]", task.resolved["images"]), task.there
    with ExitStack() as lent:
        upscaling = _upscaling(task.resolved, bench, lent)
        for index, name in enumerate(names):
            yield JobProgress(index, len(names), index, len(names), index / len(names))
            if index not in there:
                yield _enlarged(upscaling, name, index, bench)
    yield JobProgress(len(names), len(names), len(names) - 1, len(names), 1.0)


def _enlarged(upscaling: Upscaling, name: str, index: int, bench: Bench) -> MadeImage:
    source = bench.images.source(name)

    def tell(_done: int, _total: int, /) -> None:
        if bench.stopping():
            raise Stopped("told to stop")

    image = upscaling.image(source.image, tell)
    text = infotext(source, upscaling) or source.texts.get(TEXT_KEY, "")
    return made_image(image, text, index, None, encoded_after(source, image, upscaling))


def _upscaling(resolved: Mapping[str, Json], bench: Bench, lent: ExitStack) -> Upscaling:
    first, *others = (
        _ready(NamedUpscaler.model_validate(own), bench, lent)
        for own in cast("Sequence[object]", resolved["upscalers"])
    )
    visibility, to = cast("float", resolved["visibility"]), cast("list[int] | None", resolved["to"])
    scale = Scale(cast("float | None", resolved["by"]), None if to is None else (to[0], to[1]))
    return Upscaling(blended(first, others[0] if others else None, visibility), scale)


def _ready(named: NamedUpscaler, bench: Bench, lent: ExitStack) -> Upscaler:
    if isinstance(named.file, NoFile):
        return filters()[named.name]
    return lent.enter_context(bench.engine.resources.borrow(named.file.file, UPSCALER))


def _named(field: str, name: str, known: UpscalerNames, bench: Bench) -> NamedUpscaler:
    """Raises UnknownName, BadFile."""
    with about(field):
        found = known.find(name)
        if found is None:
            raise UnknownName("upscaler", name, known.names())
        if not isinstance(found, UpscalerFile):
            return NamedUpscaler(name=found.name, file=NoFile())
        reference: ModelRef = bench.engine.resources.refer_upscaler(found)
    return NamedUpscaler(name=found.name, file=InFile(file=reference))


def _pixels(scale: Scale, size: tuple[int, int], bench: Bench) -> int:
    """Of the result. Raises BadInput, TooLarge."""
    width, height = scale.size(size)
    if width * height > bench.most.pixels:
        raise TooLarge(f"scale: {width}x{height} is more than {bench.most.pixels:,} pixels, the most of one image")
    return width * height


def asked_of(model: type[M], fields: Mapping[str, Json]) -> M:
    """Fields as a model reads them. Raises BadInput in one line that names the field."""
    try:
        return model.model_validate(dict(fields))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"])) or "fields"
        reason = first["msg"][:1].lower() + first["msg"][1:]
        raise BadInput(f"{name}: {reason}") from None


SPECS = (Kind("upscale", settle, perform, aliases=("extras",)),)
