"""The noise that images get in training: what makes it more than independent normal numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.diffusion.parameterization import Parameterization
from atelier.train import randomness
from atelier.train.recipe import Noise

Network = Callable[[Tensor, Tensor], Tensor]


def drawn(shape: torch.Size | tuple[int, ...], options: Noise, seed: int, step: int) -> Tensor:
    """The noise of a step's latents, (B, C, h, w), as the options want it."""
    noise = randomness.normal(shape, seed, "noise", step)
    if options.pyramid:
        scales = [2 + 2 * float(u) for u in randomness.uniform((options.pyramid,), seed, "scales", step)]
        sides = layers(shape[-2:], scales)
        coarser = [randomness.normal((*shape[:2], *side), seed, "layer", step, i) for i, side in enumerate(sides)]
        noise = pyramid(noise, coarser, options.discount)
    if options.offset:
        noise = offset(noise, randomness.normal((*shape[:2], 1, 1), seed, "offset", step), options.offset)
    return noise


def disturbance(shape: torch.Size | tuple[int, ...], options: Noise, seed: int, step: int) -> Tensor | None:
    """What the network sees of noise that it is not asked for, in deviations of the noise; None for nothing."""
    if not options.perturbation:
        return None
    return options.perturbation * randomness.normal(shape, seed, "perturbation", step)


def offset(noise: Tensor, draw: Tensor, strength: float) -> Tensor:
    """noise (B, C, h, w) and what each channel has in common, draw (B, C, 1, 1): lets a model reach dark and bright.

    Source: Guttenberg 2023 (crosslabs.org/blog/diffusion-with-offset-noise); SDXL was trained with 0.05.
    """
    return noise + strength * draw


def layers(side: tuple[int, ...] | torch.Size, scales: list[float]) -> list[tuple[int, int]]:
    """Heights and widths of the layers of a pyramid: layer i is smaller by scales[i] to the power of i, and those after
    the first with a side of 1 are not made."""
    height, width = side
    made: list[tuple[int, int]] = []
    for i, scale in enumerate(scales):
        made.append((max(1, int(height / scale**i)), max(1, int(width / scale**i))))
        if 1 in made[-1]:
            break
    return made


def pyramid(noise: Tensor, coarser: list[Tensor], discount: float) -> Tensor:
    """noise (B, C, h, w) with layers of coarser noise, layer i of weight discount to the power of i, brought back to
    unit deviation. Source: Whitaker 2023, multi-resolution noise, in the form of the public trainers."""
    side = (noise.shape[-2], noise.shape[-1])
    for i, layer in enumerate(coarser):
        noise = noise + discount**i * F.interpolate(layer, size=side, mode="bilinear")
    return noise / noise.std()


def perturbed(net: Network, parameterization: Parameterization, sigma: Tensor, extra: Tensor | None) -> Network:
    """`net` as if its noised latents (B, C, h, w) had `extra` more noise, of which its target knows nothing.

    sigma (B,): their levels. Source: Ning 2023 (arXiv:2301.11706), algorithm 1.
    """
    if extra is None:
        return net
    seen = parameterization.scale_in(parameterization.noised(torch.zeros_like(extra), extra, sigma), sigma)
    return lambda x, t: net(x + seen, t)
