"""Perturbed-attention guidance: away from what the network says when its attention does not see beyond a position."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.diffusion.guidance.branches import Branches, Term
from atelier.diffusion.guidance.spec import GuidanceSpec
from atelier.diffusion.types import Denoiser


def pag(perturbed: Denoiser, scale: float) -> Term:
    """Ahn et al. 2024 (arXiv:2403.17377), equation 15: scale * sum_k weights[k] (c_k - perturbed c_k).

    `perturbed` is called once, with x repeated for the K conditional branches, (K * B, C, h, w): the same network, with
    the identity for the attention maps of its middle (equation 13).
    """

    def term(given: Branches) -> Tensor:
        count = len(given.parts)
        sigma = given.sigma.repeat(count) if given.sigma.ndim else given.sigma
        worse = perturbed(torch.cat([given.x] * count), sigma, given.moment).clean.chunk(count)
        pairs = zip(given.weights, given.parts, worse, strict=True)
        return scale * torch.stack([weight * (part - other) for weight, part, other in pairs]).sum(0)

    return term


SPECS = (GuidanceSpec("PAG", {"pag_scale": 0.0}, {"pag_scale": 3.0}, frozenset({"U-Net"})),)
