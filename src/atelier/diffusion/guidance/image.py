"""Guidance by an image beside that by the prompt, as a combinator."""

from __future__ import annotations

import torch
from torch import Tensor

from atelier.diffusion.types import Denoiser, Moment, Prediction


def by_image(edited: Denoiser, scale: float, branches: int) -> Denoiser:
    """InstructPix2Pix (Brooks et al. 2023, arXiv:2211.09800), equation 3, as branches for `guidance.cfg`.

    With b the unconditional prediction without the image, u with it and c_k the conditional ones, the paper's
    b + scale (u - b) + text scale (c - u) is plain guidance between u' = b + scale (u - b) and c_k' = c_k + u' - u;
    those are what this denoiser answers. `edited` is called with one branch more, b before the others; branches: u and
    the c_k. At scale 1 the branches are those of the network as they are.
    """

    def denoise(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        one = len(x) // branches
        more = torch.cat([sigma[:one], sigma]) if sigma.ndim else sigma
        blank, plain, *rest = edited(torch.cat([x[:one], x]), more, moment).clean.chunk(branches + 1)
        moved = (scale - 1) * (plain - blank)
        return Prediction(torch.cat([branch + moved for branch in (plain, *rest)]))

    return denoise
