"""What a generation or a training tells about itself: one family of frozen data, each with a JSON form.

A generation: Hashing, Warned, Started, then Loading, Progress, Preview, ImageReady and Saved; of a grid SheetReady and
SheetSaved too. A training: Resumed, then MemoryForecast, Stepped, TimeForecast,
Validated and CheckpointSaved, then Exported. Both end with one of Finished and Failed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, cast

from atelier.errors import AtelierError

if TYPE_CHECKING:
    from PIL.Image import Image

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Warned:
    """One line about something in the request that is probably not meant, or not done."""

    message: str


@dataclass(frozen=True, slots=True)
class Started:
    """images: how many are generated; steps: sampler steps in all."""

    images: int
    steps: int


@dataclass(frozen=True, slots=True)
class Hashing:
    """The weights of a model, not seen before, are about to be hashed: once, a second for every gigabyte or so."""

    model: str


@dataclass(frozen=True, slots=True)
class Loading:
    """A network of a model is about to be read; part: its role, "text", "denoiser" or "autoencoder"."""

    model: str
    part: str


@dataclass(frozen=True, slots=True)
class Progress:
    """done of total sampler steps are behind; `index` (0-based) is the first image of those being generated."""

    done: int
    total: int
    index: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What image `index` (0-based) looks like so far; small, and not exact."""

    index: int
    image: Image


@dataclass(frozen=True, slots=True)
class ImageReady:
    """Image `index` (0-based), finished, and the text that makes it again."""

    index: int
    seed: int
    image: Image
    infotext: str


@dataclass(frozen=True, slots=True)
class SheetReady:
    """Sheet `number` (0-based) of a grid, finished, and the text that says what its axes are."""

    number: int
    image: Image
    infotext: str


@dataclass(frozen=True, slots=True)
class SheetSaved:
    """Sheet `number` (0-based) lies complete at `path`."""

    number: int
    path: Path


@dataclass(frozen=True, slots=True)
class Saved:
    """Image `index` (0-based) lies complete at `path`."""

    index: int
    path: Path


@dataclass(frozen=True, slots=True)
class Resumed:
    """A training goes on after `step` steps from the checkpoint `path`. passed_over: newer ones that are damaged."""

    step: int
    path: Path
    passed_over: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassImageSaved:
    """Of `total` images of the class, which a model generates before it is taught, number `done` lies at `path`."""

    done: int
    total: int
    path: Path


@dataclass(frozen=True, slots=True)
class MemoryForecast:
    """About how many bytes a training will need in all, and its parts by name; free: those the device has, if known."""

    total: int
    parts: Mapping[str, int]
    free: int | None


@dataclass(frozen=True, slots=True)
class TimeForecast:
    """About how many seconds the `steps` steps that are left will take, without validations."""

    steps: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Stepped:
    """Optimizer step `step` of `total` was made."""

    step: int
    total: int
    losses: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Validated:
    """The averaged networks were measured after `step` steps."""

    step: int
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """The checkpoint of `step` lies complete at `path`."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class Exported:
    """What a training made lies complete at `path`, in the form that others read."""

    path: Path


@dataclass(frozen=True, slots=True)
class Finished:
    """All is done: `count` images were generated, or the training has made `count` steps; wall time in seconds."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing more comes; the error says why, in one line."""

    error: AtelierError


Forecast = MemoryForecast | TimeForecast
Made = ClassImageSaved | CheckpointSaved | Exported
TrainingEvent = Resumed | Forecast | Stepped | Validated | Made | Finished | Failed
GridEvent = SheetReady | SheetSaved
Event = Warned | Hashing | Started | Loading | Progress | Preview | ImageReady | Saved | GridEvent | TrainingEvent


def to_json(event: Event) -> dict[str, Json]:
    """The fields of an event and its name, {"event": "Progress", "done": 3, ...}, as values that JSON has.

    An image becomes its size, {"width": 512, "height": 512}: the pixels travel another way. A path becomes text, an
    error its kind, message and exit code, a number that is not finite null.
    """
    return {"event": type(event).__name__, **{f.name: _plain(getattr(event, f.name)) for f in fields(event)}}


def _plain(value: object) -> Json:
    match value:
        case tuple():
            return [_plain(item) for item in cast("tuple[object, ...]", value)]
        case Mapping():
            return {str(key): _plain(item) for key, item in cast("Mapping[object, object]", value).items()}
        case AtelierError():
            return {"kind": type(value).__name__, "message": str(value), "exit_code": value.exit_code}
        case _:
            return _single(value)


def _single(value: object) -> Json:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return str(value)
        case _:
            return _size(value)


def _size(image: object) -> Json:
    from PIL.Image import Image

    assert isinstance(image, Image)
    return {"width": image.width, "height": image.height}
