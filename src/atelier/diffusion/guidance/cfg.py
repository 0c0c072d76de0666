"""Classifier-free guidance, as a combinator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.diffusion.guidance.branches import Branches, Guess, Shape, Term
from atelier.diffusion.guidance.interval import EVERYWHERE, Interval
from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.types import Denoiser, Moment, Prediction
from atelier.errors import BadInput


@dataclass(frozen=True, slots=True)
class CfgOptions:
    """How strongly, and where.

    scale: 1 = no guidance. weights: of the conditional branches, in their order (A1111's AND), one of 1 by default.
    rescale: 0 to 1, how far the contrast of the guided output is brought back to that of the conditional one
    (Lin et al. 2023, arXiv:2305.08891, equations 14-16).
    Above level `start` and below level `end` there is no guidance: the first conditional branch stands for the
    unconditional, at scale 1. alternate: below `end`, only every other call is without guidance (A1111's NGMS).
    """

    scale: float = 7.5
    weights: tuple[float, ...] = (1.0,)
    rescale: float = 0.0
    start: float = math.inf
    end: float = 0.0
    alternate: bool = False
    interval: Interval = EVERYWHERE

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.scale, self.rescale, *self.weights))) or not self.weights:
            raise BadInput("guidance needs finite numbers and at least one conditional branch")
        if not 0 <= self.rescale <= 1:
            raise BadInput(f"CFG rescale is {self.rescale}: use 0 to 1")

    def scale_at(self, sigma: float, *, odd: bool) -> float | None:
        """The scale at a level, None where there is no guidance; `odd`: whether the call's number is."""
        below = sigma < self.end and (odd or not self.alternate)
        neutral = self.scale == 1 and self.weights == (1.0,)
        outside = sigma > self.start * (1 + 1e-6) or not self.interval.holds(sigma)
        return None if neutral or below or outside else self.scale


def cfg(
    both: Denoiser,
    guidance: CfgOptions,
    *,
    conditional: Denoiser | None = None,
    rescaled_as: Parameterization | None = None,
    unguided: bool = False,
    shapes: Sequence[Shape] = (),
    terms: Sequence[Term] = (),
) -> Denoiser:
    """Ho and Salimans 2022 (arXiv:2207.12598), equation 6, on clean predictions, with several weighted branches:
    clean = u + scale * sum_k weights[k] (c_k - u).

    `both` is called once with x repeated branch by branch, (1 + K) * B of them: unconditional first, then the K
    conditional branches. `conditional` answers for the K conditional ones alone and saves the unconditional where there
    is no guidance; without it both are evaluated always. `unguided` asks for Prediction.unguided at every level
    (samplers of the CFG++ kind). `rescaled_as`: the network's parameterization; contrast is measured on its output, as
    diffusers does, instead of on the clean latent. shapes: what puts the branches together otherwise, in this order,
    where there is guidance; terms: what is added to the outcome everywhere.
    """
    alone = None if unguided else conditional
    count = len(guidance.weights)

    def guided(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        scale = guidance.scale_at(float(sigma.max()), odd=moment.call % 2 == 1)
        uncond = None
        if scale is None and alone is not None:
            cond = _branches(alone, x, sigma, moment, count)
        else:
            uncond, *cond = _branches(both, x, sigma, moment, 1 + count)
        given = Branches(x, sigma, moment, tuple(cond), guidance.weights)
        if uncond is None or scale is None:
            clean = _compose(cond[0], cond, guidance.weights, 1.0)
        else:
            clean = _contrasted(_guided(given, uncond, scale, shapes), given, uncond, guidance.rescale, rescaled_as)
        for term in terms:
            clean = clean + term(given)
        return Prediction(clean, uncond)

    return guided


def _contrasted(
    clean: Tensor, given: Branches, uncond: Tensor, amount: float, rescaled_as: Parameterization | None
) -> Tensor:
    """With as much of the conditional's contrast as is asked for."""
    if not amount:
        return clean
    plain = _compose(uncond, given.parts, given.weights, 1.0)
    return _rescaled(clean, plain, given.x, given.sigma, amount, rescaled_as)


def level_at(sigmas: Tensor, fraction: float) -> float:
    """The level reached after a fraction of the steps: turns A1111's "skip early" into CfgOptions.start
    (docs/compatibility/samplers.md).

    Guidance is off while index / n <= fraction; 0 is no skipping, and gives infinity.
    """
    if fraction <= 0:
        return math.inf
    index = min(math.floor(fraction * (len(sigmas) - 1)) + 1, len(sigmas) - 1)
    return float(sigmas[index])


def _branches(denoise: Denoiser, x: Tensor, sigma: Tensor, moment: Moment, count: int) -> tuple[Tensor, ...]:
    repeated = sigma.repeat(count) if sigma.ndim else sigma
    return denoise(torch.cat([x] * count), repeated, moment).clean.chunk(count)


def _guided(given: Branches, uncond: Tensor, scale: float, shapes: Sequence[Shape]) -> Tensor:
    clean = _compose(uncond, given.parts, given.weights, scale)
    if not shapes:
        return clean
    guess = Guess(uncond, given.toward(uncond), scale, clean)
    for shape in shapes:
        guess = shape(given, guess)
    return guess.clean


def _compose(base: Tensor, cond: Sequence[Tensor], weights: tuple[float, ...], scale: float) -> Tensor:
    clean = base
    for c, weight in zip(cond, weights, strict=True):
        clean = c if weight * scale == 1 and clean is base else clean + (c - base) * (weight * scale)
    return clean


def _rescaled(
    clean: Tensor, cond: Tensor, x: Tensor, sigma: Tensor, amount: float, output: Parameterization | None
) -> Tensor:
    if output is None:
        return clean * _factor(clean, cond, amount)
    guided = output.target(clean, x, sigma)
    return output.denoised(guided * _factor(guided, output.target(cond, x, sigma), amount), x, sigma)


def _factor(guided: Tensor, cond: Tensor, amount: float) -> Tensor:
    dims = tuple(range(1, guided.ndim))
    return amount * cond.std(dims, keepdim=True) / guided.std(dims, keepdim=True) + (1 - amount)
