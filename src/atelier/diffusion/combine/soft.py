"""Soft inpainting: a mask with grey in it, of which more and more is made anew as the noise goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.diffusion.types import Combinator, Denoiser, Moment, Prediction

NOTHING = 1e-5
"""Below every length of a latent that is divided by."""


@dataclass(frozen=True, slots=True)
class Softness:
    """How a mask opens (docs/compatibility/img2img.md).

    At the level sigma a value m of the mask is m ** (sigma ** bias * strength): near 0 where there is much noise, near
    1 at the end. contrast: 1 blends lengths of latents evenly, larger values keep nearer to the longer one.
    """

    bias: float = 1.0
    strength: float = 0.5
    contrast: float = 4.0

    def mask_at(self, mask: Tensor, sigma: Tensor) -> Tensor:
        """mask: (1, 1, h, w), 0 to 1; sigma: () or (B,). Where the mask is 0 it stays 0."""
        power = (sigma**self.bias * self.strength).reshape(-1, 1, 1, 1).to(mask)
        return torch.where(mask > 0, mask**power, torch.zeros_like(mask))

    def blended(self, known: Tensor, made: Tensor, mask: Tensor) -> Tensor:
        """The latent vectors between `known` (mask 0) and `made` (mask 1), (B, C, h, w), in the direction of the plain
        blend and with a length between theirs, so that what is blended does not fade."""
        plain = known * (1 - mask) + made * mask
        lengths = [_length(latent) ** self.contrast for latent in (known, made)]
        wanted = (lengths[0] * (1 - mask) + lengths[1] * mask) ** (1 / self.contrast)
        mixed = (plain * (wanted / (_length(plain) + NOTHING))).to(made)
        return torch.where(mask >= 1, made, torch.where(mask <= 0, known, mixed))


def softly(known: Tensor, mask: Tensor, softness: Softness) -> Combinator:
    """Predicts what lies between `known` (B, C, h, w) and what the denoiser predicts, by the mask (B or 1, 1, h, w)."""

    def combine(denoise: Denoiser) -> Denoiser:
        def blended(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
            made, now = denoise(x, sigma, moment), softness.mask_at(mask.to(x), sigma)
            kept = known.to(x)
            unguided = None if made.unguided is None else softness.blended(kept, made.unguided, now)
            return Prediction(softness.blended(kept, made.clean, now), unguided)

        return blended

    return combine


def _length(latent: Tensor) -> Tensor:
    """Of each vector of channels, in float64: it is raised to large powers."""
    return latent.double().square().sum(1, keepdim=True).sqrt()
