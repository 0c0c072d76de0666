"""Where an image changed, as a mask: soft inpainting lays its result over the original through it.

The rules are A1111's: docs/compatibility/img2img.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float64]

REACH, SPREAD = 2, 1.5
"""Positions that are looked at around each one, and the deviation of the Gaussian that weighs them."""
LARGEST, MIDDLE = (0.9, 1.0), (0.25, 0.75)
"""Shares of the sorted neighbours whose mean is taken: first what stands out, then what is usual."""
EDGE = 4
"""Pixels of the last blur."""
NEARLY = 1.00001
"""A1111's, so that a mask of 1 divides by something."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """influence: 0 to 1, how far the mask decides in place of the difference; threshold: the difference that is half
    seen; contrast: how sudden it is seen; strength: of the mask that is opened, see `combine.soft`."""

    influence: float
    threshold: float
    contrast: float
    strength: float


def changed(before: Floats, after: Floats, mask: Floats, wanted: Sensitivity, size: tuple[int, int]) -> Image.Image:
    """The mask (L) of `size`, (width, height). before, after: latents (C, h, w); mask: (h, w), 0 to 1."""
    distance = np.linalg.norm(after - before, axis=0)
    for low, high in (LARGEST, MIDDLE):
        distance = _filtered(distance, low, high)
    opened = 1 - np.where(mask > 0, mask ** (wanted.strength / 2), 0)
    share = 0.5 * (1 - wanted.influence) + wanted.influence * opened
    half = np.maximum(wanted.threshold * share / (NEARLY - share), 1e-9)
    same = 1 / (1 + (distance / half) ** wanted.contrast)
    seen = np.where(distance > 0, 1 - _smoother(same), 0)
    small = Image.fromarray((seen * 255).round().astype(np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(EDGE))


def _filtered(values: Floats, low: float, high: float) -> Floats:
    """At each position the weighted mean of those of its neighbours whose rank lies between two shares of all."""
    height, width = values.shape
    around: list[Floats] = []
    weights: list[Floats] = []
    padded, inside = (np.pad(layer, REACH) for layer in (values, np.ones_like(values)))
    for down in range(2 * REACH + 1):
        for across in range(2 * REACH + 1):
            squared = (down - REACH) ** 2 + (across - REACH) ** 2
            part = slice(down, down + height), slice(across, across + width)
            around.append(padded[part])
            weights.append(inside[part] * np.exp(-squared / (2 * SPREAD**2)))
    return _between(np.stack(around), np.stack(weights), low, high)


def _between(values: Floats, weights: Floats, low: float, high: float) -> Floats:
    """values, weights: (neighbours, h, w)."""
    order = np.argsort(values, axis=0, kind="stable")
    values, weights = (np.take_along_axis(layer, order, 0) for layer in (values, weights))
    ends = np.cumsum(weights, 0) / weights.sum(0)
    begins = np.concatenate([np.zeros_like(ends[:1]), ends[:-1]])
    shares = (np.minimum(ends, high) - np.maximum(begins, low)).clip(0)
    return (values * shares).sum(0) / shares.sum(0)


def _smoother(share: Floats) -> Floats:
    """Ken Perlin's smoother step, 0 to 1."""
    return share**3 * (share * (share * 6 - 15) + 10)
