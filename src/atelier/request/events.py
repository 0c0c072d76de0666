"""What a run tells about itself, in order: Warned, Started, then Loading, Progress, Preview, ImageReady and Saved, then
one of Finished and Failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import AtelierError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class Warned:
    """One line about something in the request that is probably not meant, or not done."""

    message: str


@dataclass(frozen=True, slots=True)
class Started:
    """pictures: how many are painted; steps: sampler steps in all."""

    pictures: int
    steps: int


@dataclass(frozen=True, slots=True)
class Loading:
    """A network of a model is about to be read; part: "text", "unet", "vae"."""

    model: str
    part: str


@dataclass(frozen=True, slots=True)
class Progress:
    """done of total sampler steps are behind; `picture` (0-based) is the first of those being painted."""

    done: int
    total: int
    picture: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What picture `picture` (0-based) looks like so far; small, and not exact."""

    picture: int
    image: Image


@dataclass(frozen=True, slots=True)
class ImageReady:
    """A finished picture and the text that makes it again."""

    picture: int
    seed: int
    image: Image
    infotext: str


@dataclass(frozen=True, slots=True)
class Saved:
    """Picture `picture` lies complete at `path`."""

    picture: int
    path: Path


@dataclass(frozen=True, slots=True)
class Finished:
    """All pictures are painted; wall time in seconds."""

    pictures: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing more comes; the error says why, in one line."""

    error: AtelierError


Event = Warned | Started | Loading | Progress | Preview | ImageReady | Saved | Finished | Failed
