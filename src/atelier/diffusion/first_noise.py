"""What the first noise of an image is made of: seed, variation, resize; and the stream that goes on after it.

The rules are A1111's (docs/compatibility/samplers.md, Noise), so that its images come out again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.diffusion.rng import DEFAULT_SOURCE, Stream, stream
from atelier.errors import BadInput

_ALIKE = 0.9995


@dataclass(frozen=True, slots=True)
class Seed:
    """One image's seed and how it is varied.

    strength: 0 to 1, from the seed's noise to the subseed's. resized_from: (height, width) in latent cells of the
    image whose layout is to be kept. delta: added to the seed for all noise after the first (A1111's ENSD).
    """

    seed: int
    subseed: int = 0
    strength: float = 0.0
    resized_from: tuple[int, int] | None = None
    delta: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise BadInput(f"variation strength is {self.strength}: use 0 to 1")
        if self.resized_from is not None and min(self.resized_from) < 1:
            raise BadInput("the size to resize the seed from must be at least one latent cell each way")


def first_noise(seed: Seed, shape: Sequence[int], source: str = DEFAULT_SOURCE) -> tuple[Tensor, Stream]:
    """An image's first noise, float32 (C, h, w) on the CPU, and its stream for what follows.

    The stream goes on from there; with a delta it is a new one, of seed + delta.
    """
    of, full = stream(seed.seed, source), tuple(shape)
    size = full if seed.resized_from is None else (full[0], *seed.resized_from)
    noise = (of if size == full else stream(seed.seed, source)).normal(size)
    if seed.strength:
        noise = slerp(noise, stream(seed.subseed, source).normal(size), seed.strength)
    if size != full:
        noise = pasted(noise, of.normal(full))
    return noise, stream(seed.seed + seed.delta, source) if seed.delta else of


def first_noises(
    seeds: Sequence[Seed], shape: Sequence[int], source: str = DEFAULT_SOURCE
) -> tuple[Tensor, tuple[Stream, ...]]:
    """The same for a batch: noise (B, C, h, w) and a stream per image."""
    noises, streams = zip(*(first_noise(seed, shape, source) for seed in seeds), strict=True)
    return torch.stack(noises), streams


def slerp(low: Tensor, high: Tensor, share: float) -> Tensor:
    """From low to high (C, h, w) along the sphere, column by column: angles are along the height, as in A1111.

    Tensors that are all but equal are mixed in a straight line, as there with the shares exchanged
    (docs/compatibility/samplers.md).
    """
    if share == 1:
        return high
    a, b = low.double(), high.double()
    dot = (_unit(a) * _unit(b)).sum(1, keepdim=True)
    if float(dot.mean()) > _ALIKE:
        return (a * share + b * (1 - share)).float()
    angle: Tensor = torch.acos(dot.clamp(-1, 1))
    sine = torch.sin(angle).clamp(min=1e-6)
    straight = sine <= 1e-6
    near = torch.where(straight, 1 - share, torch.sin((1 - share) * angle) / sine)
    far = torch.where(straight, share, torch.sin(share * angle) / sine)
    return (near * a + far * b).float()


def _unit(x: Tensor) -> Tensor:
    return x / x.square().sum(1, keepdim=True).sqrt()


def pasted(small: Tensor, onto: Tensor) -> Tensor:
    """`onto` (C, h, w) with `small` (C, h', w') at its centre, cut where it is larger."""
    (top, from_top, height), (left, from_left, width) = (
        _overlap(small.shape[axis], onto.shape[axis]) for axis in (1, 2)
    )
    result = onto.clone()
    result[:, top : top + height, left : left + width] = small[
        :, from_top : from_top + height, from_left : from_left + width
    ]
    return result


def _overlap(small: int, full: int) -> tuple[int, int, int]:
    """(where it goes, where it is taken from, how much) along one axis. Of an odd excess A1111 leaves out one more."""
    gap = math.floor((full - small) / 2)
    return max(gap, 0), max(-gap, 0), small + 2 * min(gap, 0)
