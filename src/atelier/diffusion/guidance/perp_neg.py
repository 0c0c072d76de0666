"""Perpendicular negative prompts: a negative prompt takes nothing away that the prompt asks for."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.diffusion.guidance.branches import Branches, Guess, Shape
from atelier.diffusion.guidance.spec import GuidanceSpec
from atelier.diffusion.types import Denoiser


def perp_neg(empty: Denoiser, scale: float) -> Shape:
    """Armandpour et al. 2023 (arXiv:2304.04968), equations 8 and 9: from the prediction e for no words at all, the
    prompt's direction without `scale` times the part of the negative prompt's that is perpendicular to it.

    `empty` is called once, with x (B, C, h, w).
    """

    def shape(given: Branches, guess: Guess) -> Guess:
        base = empty(given.x, given.sigma, given.moment).clean
        wanted = given.toward(base)
        toward = wanted - scale * perpendicular(guess.base - base, wanted)
        return Guess(base, toward, guess.scale, base + guess.scale * toward)

    return shape


def perpendicular(direction: Tensor, to: Tensor) -> Tensor:
    """The part of each sample's direction (B, ...) that is perpendicular to another; all of it, where that is none."""
    dims = tuple(range(1, direction.ndim))
    square = (to * to).sum(dims, keepdim=True).clamp_min(torch.finfo(to.dtype).tiny)
    return direction - (direction * to).sum(dims, keepdim=True) / square * to


SPECS = (GuidanceSpec("Perp-Neg", {"perp_neg_scale": 0.0}, {"perp_neg_scale": 1.0}),)
