"""Several denoisers on one canvas, each where its mask is (Bar-Tal et al. 2023, arXiv:2302.08113, section 5.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.diffusion.types import Combinator, Denoiser, Moment, Prediction

Noised = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(clean latent, unit noise, sigma) -> the latent at that level of noise."""


def regions(parts: Sequence[tuple[Tensor, Denoiser]]) -> Denoiser:
    """Asks each denoiser for the whole canvas and takes of it what its mask (1, 1, h, w) says.

    Masks are weights, at least 0: where several are above 0 their predictions are averaged by them. Somewhere above 0
    each of them must be, and at every position one of them. One denoiser with any mask has the bits that it has alone.
    """
    total = torch.stack([mask for mask, _ in parts]).sum(0)
    shares = [mask / total for mask, _ in parts]

    def combined(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        made = [denoise(x, sigma, moment) for _, denoise in parts]
        unguided = [prediction.unguided for prediction in made if prediction.unguided is not None]
        return Prediction(_mixed([p.clean for p in made], shares), _mixed(unguided, shares) if unguided else None)

    return combined


@dataclass(frozen=True, slots=True)
class Ground:
    """What a region stands on at first, so that the whole of its thing is made inside of it.

    colours: flat clean latents (N, C, 1, 1), one after the other; noise: unit noise (B, C, h, w), the same at every
    call; noised: puts it on; until: the share of the calls, 0 to 1, that have a ground.
    """

    colours: Tensor
    noise: Tensor
    noised: Noised
    until: float


def on_ground(mask: Tensor, ground: Ground, first: int) -> Combinator:
    """Shows the denoiser a flat noised colour where mask (1, 1, h, w), 0 to 1, is 0, another one at each call.

    first: which colour is shown at call 0.
    """

    def combine(denoise: Denoiser) -> Denoiser:
        def grounded(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
            if moment.progress >= ground.until:
                return denoise(x, sigma, moment)
            number = (first + moment.call) % len(ground.colours)
            flat = ground.colours[number : number + 1].to(x).expand_as(x)
            under = ground.noised(flat, ground.noise.to(x), sigma)
            inside = mask.to(x)
            return denoise(x * inside + under * (1 - inside), sigma, moment)

        return grounded

    return combine


def _mixed(made: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
    first, *others = (clean * share.to(clean) for clean, share in zip(made, shares, strict=True))
    for other in others:
        first = first + other
    return first
