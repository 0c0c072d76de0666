"""The steps of painting, as data."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.request.model import ModelRef, Rng


@dataclass(frozen=True, slots=True)
class Slot:
    """One picture of a request: its place (0-based), its seed and the text that makes it again."""

    picture: int
    seed: int
    infotext: str


@dataclass(frozen=True, slots=True)
class Encode:
    """Turns the prompts into what the denoiser attends to."""

    model: ModelRef
    prompt: str
    negative_prompt: str


@dataclass(frozen=True, slots=True)
class Diffuse:
    """Paints latents from noise, all of these pictures at once. width and height in pixels."""

    model: ModelRef
    slots: tuple[Slot, ...]
    sampler: str
    scheduler: str
    steps: int
    cfg_scale: float
    rng: Rng
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Decode:
    """Turns latents into pictures."""

    model: ModelRef
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """Writes pictures to `output`; `pictures`: how many the whole request has."""

    slots: tuple[Slot, ...]
    pictures: int
    output: str


Stage = Encode | Diffuse | Decode | Save
