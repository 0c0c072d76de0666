"""Skip-layer guidance: away from what a transformer says without some of its blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.diffusion.guidance.branches import Branches, Term
from atelier.diffusion.guidance.spec import GuidanceSpec
from atelier.diffusion.types import Denoiser

BLOCKS = (7, 8, 9)
"""That are left out, as Stability published it for Stable Diffusion 3.5 medium."""
FIRST, LAST = 0.01, 0.2
"""Shares of the way between which it acts, both excluded; from the same place."""


def slg(without: Denoiser, scale: float) -> Term:
    """scale * sum_k weights[k] (c_k - c_k without the blocks), between FIRST and LAST of the way.

    Source: Stability AI's published settings of Stable Diffusion 3.5 medium; the sum is that of Ahn et al. 2024
    (arXiv:2403.17377), equation 15, with another worse network. `without` is called once, with x repeated for the K
    conditional branches, (K * B, C, h, w), and not at all outside of its part of the way.
    """

    def term(given: Branches) -> Tensor:
        if not FIRST < given.moment.progress < LAST:
            return torch.zeros_like(given.x)
        count = len(given.parts)
        sigma = given.sigma.repeat(count) if given.sigma.ndim else given.sigma
        worse = without(torch.cat([given.x] * count), sigma, given.moment).clean.chunk(count)
        pairs = zip(given.weights, given.parts, worse, strict=True)
        return scale * torch.stack([weight * (part - other) for weight, part, other in pairs]).sum(0)

    return term


SPECS = (
    GuidanceSpec("SLG", {"slg_scale": 0.0}, {"slg_scale": 2.5}, frozenset({"transformer"}), ("Skip-layer guidance",)),
)
