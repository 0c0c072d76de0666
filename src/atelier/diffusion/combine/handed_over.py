"""Two models in one sampling: another one takes over where little noise is left.

The rules are A1111's (docs/compatibility/img2img.md, The refiner).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from atelier.diffusion.types import Combinator, Denoiser, Moment, Prediction

Due = Callable[[Tensor, Moment], bool]
"""(sigma, the moment) -> whether the time to hand over has come."""


def by_calls(share: float) -> Due:
    """When this share, 0 to 1, of the sampler's calls has been made."""

    def due(_: Tensor, moment: Moment, /) -> bool:
        return moment.progress >= share

    return due


def by_noise(share: float, table: Tensor) -> Due:
    """When this share, 0 to 1, of the model's levels is left behind. table: of them, ascending (T,)."""
    count = len(table)

    def due(sigma: Tensor, _: Moment, /) -> bool:
        nearest = int((table.to(sigma) - sigma.max()).abs().argmin())
        return (count - 1 - nearest) / count >= share

    return due


def handed_over(later: Denoiser, due: Due) -> Combinator:
    """`later` predicts from the first call on at which it is due, also where the noise grows again afterwards."""

    def combine(denoise: Denoiser) -> Denoiser:
        is_over = False

        def predicted(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
            nonlocal is_over
            is_over = is_over or due(sigma, moment)
            return (later if is_over else denoise)(x, sigma, moment)

        return predicted

    return combine
