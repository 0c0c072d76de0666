"""Self-attention guidance: away from what the network says where its attention found something and it was blurred."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.diffusion.guidance.branches import Branches, Term
from atelier.diffusion.guidance.spec import GuidanceSpec
from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.types import Denoiser, Moment

RADIUS = 4
"""Of the blur, in positions of the latent: 9 x 9, as in the authors' program."""
THRESHOLD = 1.0
"""A position that is attended to more than this is blurred: 1 is the mean (the paper's psi)."""

Observed = Callable[[Tensor, Tensor, Moment], tuple[Tensor, Tensor]]
"""(x, sigma, moment) -> the clean prediction without the prompt (B, C, h, w), and how much each position of the map in
the network's middle is attended to, (B, H, W)."""


@dataclass(frozen=True, slots=True)
class SagOptions:
    """scale: how far; blur: standard deviation in positions of the latent."""

    scale: float
    blur: float = 2.0


def sag(observed: Observed, unconditional: Denoiser, options: SagOptions, parameterization: Parameterization) -> Term:
    """Hong et al. 2022 (arXiv:2210.00939), algorithm 1 with classifier-free guidance, on clean predictions.

    The prediction without the prompt is blurred where it is attended to, the noise that was in x is put back, and the
    network is asked again: scale * (blurred - its answer) is added.
    """

    def term(given: Branches) -> Tensor:
        clean, attended = observed(given.x, given.sigma, given.moment)
        worse = degraded(clean, attended, options.blur)
        signal = parameterization.at(given.sigma, given.x).signal
        again = unconditional(given.x + signal * (worse - clean), given.sigma, given.moment).clean
        return options.scale * (worse - again)

    return term


def degraded(clean: Tensor, attended: Tensor, sigma: float) -> Tensor:
    """clean (B, C, h, w) blurred where attended (B, H, W) is above the threshold (equation 9)."""
    mask = F.interpolate((attended > THRESHOLD).to(clean)[:, None], size=clean.shape[2:], mode="nearest")
    return clean + mask * (blurred(clean, sigma) - clean)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x (B, C, h, w) under a Gaussian of standard deviation sigma > 0 in positions, mirrored at the borders."""
    for dim in (-1, -2):
        x = _along(x, sigma, dim)
    return x


def _along(x: Tensor, sigma: float, dim: int) -> Tensor:
    radius = min(RADIUS, x.shape[dim] - 1)
    weights = [math.exp(-(place**2) / (2 * sigma**2)) for place in range(-radius, radius + 1)]
    total = math.fsum(weights)
    padded = F.pad(x, (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius), mode="reflect")
    parts = [weight / total * padded.narrow(dim, i, x.shape[dim]) for i, weight in enumerate(weights)]
    return torch.stack(parts).sum(0)


SPECS = (GuidanceSpec("SAG", {"sag_scale": 0.0}, {"sag_scale": 0.75, "sag_blur_sigma": 1.0}, frozenset({"U-Net"})),)
