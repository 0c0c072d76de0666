"""The steps of painting, as data."""

from __future__ import annotations

from dataclasses import dataclass

from atelier.pipeline.prepared import PreparedPrompt
from atelier.request.infotext import Settings
from atelier.request.resolved import ModelRef, Resolved


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of a request: its place (0-based), its seeds, its words, and what its infotext will say."""

    picture: int
    seed: int
    variation_seed: int
    prompt: PreparedPrompt
    settings: Settings


@dataclass(frozen=True, slots=True)
class Encode:
    """Turns texts into what the denoiser attends to.

    groups: texts that are encoded together, those of one prompt's timeline, because Original emphasis evens out the
    mean over all of them.
    """

    model: ModelRef
    groups: tuple[tuple[str, ...], ...]
    emphasis: str
    clip_skip: int


@dataclass(frozen=True, slots=True)
class Diffuse:
    """Paints latents from noise, all of these pictures at once; their prompts have the same weights of AND."""

    resolved: Resolved
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Decode:
    """Turns latents into pictures."""

    model: ModelRef
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Save:
    """Writes pictures to `output`; `pictures`: how many the whole request has."""

    samples: tuple[Sample, ...]
    pictures: int
    output: str


Stage = Encode | Diffuse | Decode | Save
