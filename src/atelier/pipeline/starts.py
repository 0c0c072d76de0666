"""Where sampling starts from, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from atelier.diffusion.combine.masked import masked
from atelier.diffusion.combine.soft import Softness, softly
from atelier.diffusion.combine.tiles import Views, gaussian, sloped, tiles
from atelier.diffusion.partial import Part, part_of
from atelier.diffusion.types import Combinator, Denoiser
from atelier.nn.seamless import Seamless
from atelier.pipeline.sample import Sample
from atelier.pipeline.values import Key, Known, Values
from atelier.request.resolved import MaskedContent, ResolvedViews

Raise = Callable[[Tensor, float], Tensor]
"""(unit noise, sigma) -> what a sampler begins with at that sigma where there is no image yet."""
Noised = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(clean latent, unit noise, sigma) -> the latent at that level of noise."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a start can begin with.

    noise: unit noise (B, C, h, w), one row for each of `samples`; sigmas: the whole schedule, descending; run: how many
    of its steps are taken; raised: the noise at a level, as the sampler wants it; noised: a latent at a level; values:
    what earlier stages left; factor: pixels of one position of the latent.
    """

    noise: Tensor
    sigmas: Tensor
    run: int
    raised: Raise
    noised: Noised
    samples: Sequence[Sample]
    values: Values
    factor: int


class Start(Protocol):
    """What a sampler begins with."""

    def part(self, steps: int, /) -> Part:
        """How long the schedule is for a request of so many steps, and how many of its steps are taken."""
        ...

    def begin(self, given: Beginning, /) -> tuple[Tensor, Tensor]:
        """(x at the first sigma that is used, the sigmas to run through), x of the shape of the noise."""
        ...


class Wrap(Protocol):
    """What is composed around a denoiser, made when a run has what it needs."""

    def around(self, given: Beginning, /) -> Combinator: ...


def wrapped(denoise: Denoiser, wraps: Sequence[Wrap], given: Beginning) -> Denoiser:
    """A denoiser with wraps around it, from the inside out."""
    for wrap in wraps:
        denoise = wrap.around(given)(denoise)
    return denoise


@dataclass(frozen=True, slots=True)
class FromNoise:
    """There is no image yet: noise at the schedule's first sigma, and all of the schedule."""

    def part(self, steps: int, /) -> Part:
        return Part(steps, steps)

    def begin(self, given: Beginning, /) -> tuple[Tensor, Tensor]:
        return given.raised(given.noise, float(given.sigmas[0])), given.sigmas


@dataclass(frozen=True, slots=True)
class FromLatent:
    """A latent with noise on it, and the rest of the schedule. At a strength of 1, noise alone.

    source: where the latent is; noise_multiplier: a factor on the noise; extra_noise: of the same noise, added beyond
    its level; content: what is in the mask at the start.
    """

    source: Key[Known]
    strength: float
    exact_steps: bool = False
    noise_multiplier: float = 1.0
    extra_noise: float = 0.0
    content: MaskedContent = "original"

    def part(self, steps: int, /) -> Part:
        return Part(steps, steps) if self.strength >= 1 else part_of(steps, self.strength, exact=self.exact_steps)

    def begin(self, given: Beginning, /) -> tuple[Tensor, Tensor]:
        if self.strength >= 1:
            return FromNoise().begin(given)
        known = self._filled(given.values.read(self.source), given.noise)
        sigmas = given.sigmas[max(len(given.sigmas) - 1 - given.run, 0) :]
        if given.run == 0:
            return known.expand_as(given.noise), sigmas
        noise = given.noise * self.noise_multiplier
        return given.noised(known, noise, sigmas[0]) + self.extra_noise * noise, sigmas

    def _filled(self, known: Known, noise: Tensor) -> Tensor:
        """The latent with what the mask shows replaced; "fill" was done to the image already."""
        latent, mask = known.latent.to(noise), known.mask.to(noise)
        match self.content:
            case "latent noise":
                return latent * (1 - mask) + noise * mask
            case "latent nothing":
                return latent * (1 - mask)
            case _:
                return latent


@dataclass(frozen=True, slots=True)
class InMask:
    """Only what the mask shows is made anew; `source`: where the latent and the mask are; soft: how a mask with grey in
    it opens, None for one of 0 and 1."""

    source: Key[Known]
    soft: Softness | None = None

    def around(self, given: Beginning, /) -> Combinator:
        known = given.values.read(self.source)
        latent, mask = known.latent.to(given.noise), known.mask.to(given.noise)
        return masked(latent, mask) if self.soft is None else softly(latent, mask, self.soft)


@dataclass(frozen=True, slots=True)
class InViews:
    """The canvas is seen view by view. Where its edges meet, views go over them; at_once: views in one call."""

    views: ResolvedViews
    seamless: Seamless
    at_once: int

    def around(self, given: Beginning, /) -> Combinator:
        views = self.views
        return tiles(
            Views(
                height=views.size.height // given.factor,
                width=views.size.width // given.factor,
                overlap=views.overlap // given.factor,
                weigh=sloped if views.method == "multidiffusion" else gaussian,
                wrap_x=self.seamless.x,
                wrap_y=self.seamless.y,
                at_once=self.at_once,
            )
        )
