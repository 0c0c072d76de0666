"""Inpainting with any model: what is kept is known, so the prediction says it."""

from __future__ import annotations

from torch import Tensor

from atelier.diffusion.types import Combinator, Denoiser, Moment, Prediction


def masked(known: Tensor, mask: Tensor) -> Combinator:
    """Predicts `known` (B, C, h, w) where mask (B or 1, 1, h, w) is 0, and what the denoiser predicts where it is 1.

    A sampler then ends at `known` outside of the mask, whatever its steps are.
    """

    def combine(denoise: Denoiser) -> Denoiser:
        def blended(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
            made = denoise(x, sigma, moment)
            unguided = None if made.unguided is None else _mixed(known, made.unguided, mask)
            return Prediction(_mixed(known, made.clean, mask), unguided)

        return blended

    return combine


def _mixed(known: Tensor, made: Tensor, mask: Tensor) -> Tensor:
    return made * mask.to(made) + known.to(made) * (1 - mask.to(made))
