"""Resizing arrays by the rules of OpenCV, which the models that read hints were trained behind: docs/steering.md.

A pixel is a square whose centre is at a half: the output pixel i sees the input around (i + 0.5) * scale - 0.5.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
How = Literal["nearest", "linear", "cubic", "lanczos", "area"]

SHARPNESS = -0.75
"""The free parameter of the cubic (Keys 1981, equation 15, has -0.5); OpenCV's choice."""
LOBES = 4
"""Of the Lanczos kernel: 8 taps."""
TAPS = {"linear": 2, "cubic": 4, "lanczos": 2 * LOBES}


class Taps(NamedTuple):
    """What each output position is a weighted sum of: indices and weights, both (out, taps)."""

    places: NDArray[np.intp]
    weights: Floats


def resize(values: Pixels, width: int, height: int, how: How) -> Pixels:
    """(h, w, C) or (h, w) at width x height. Within 1 of 255 of OpenCV's, whose weights have 11 bits."""
    resized = resize_floats(values.astype(np.float64), width, height, how)
    return np.rint(resized).clip(0, 255).astype(np.uint8)


def resize_floats(values: Floats, width: int, height: int, how: How) -> Floats:
    """The same without rounding: cubic and lanczos may leave the range of the input. Area is for what shrinks; where
    a side grows it is linear."""
    if how == "area" and (width > values.shape[1] or height > values.shape[0]):
        how = "linear"
    if how == "nearest":
        return values[_nearest(values.shape[0], height)][:, _nearest(values.shape[1], width)]
    return _along(_along(values, width, how, 1), height, how, 0)


def matrix(old: int, new: int, how: How) -> Floats:
    """(new, old): what resizing does along one side. It pays where many maps of few pixels become large."""
    if old == new:
        return np.eye(old)
    taps = _area(old, new) if how == "area" else _interpolation(old, new, how)
    made = np.zeros((new, old))
    np.add.at(made, (np.arange(new)[:, None], taps.places), taps.weights)
    return made


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """Nearest is no half-pixel rule: position i reads the floor of i * scale."""
    return np.minimum(np.floor(np.arange(new) * (old / new)), old - 1).astype(np.intp)


def _along(values: Floats, new: int, how: How, axis: int) -> Floats:
    old = values.shape[axis]
    if old == new:
        return values
    taps = _area(old, new) if how == "area" else _interpolation(old, new, how)
    shape = tuple(new if a == axis else 1 for a in range(values.ndim))
    total = np.zeros([new if a == axis else size for a, size in enumerate(values.shape)])
    for k in range(taps.places.shape[1]):
        total += values.take(taps.places[:, k], axis) * taps.weights[:, k].reshape(shape)
    return total


def _area(old: int, new: int) -> Taps:
    """Each output pixel is the mean of what it covers, parts of pixels by their share."""
    scale = old / new
    starts, ends = np.arange(new) * scale, np.minimum((np.arange(new) + 1) * scale, old)
    count = int(np.ceil(scale)) + 1
    places = np.floor(starts).astype(np.intp)[:, None] + np.arange(count)
    covered = np.minimum(ends[:, None], places + 1) - np.maximum(starts[:, None], places)
    weights: Floats = covered.clip(0)
    return Taps(np.minimum(places, old - 1), weights / weights.sum(1, keepdims=True))


def _interpolation(old: int, new: int, how: How) -> Taps:
    """What lies outside is the outermost pixel."""
    centres = (np.arange(new) + 0.5) * (old / new) - 0.5
    whole: Floats = np.floor(centres)
    count = TAPS[how]
    offsets = np.arange(count) - (count // 2 - 1)
    distances: Floats = (centres - whole)[:, None] - offsets
    weights = {"linear": _tent, "cubic": _cubic, "lanczos": _lanczos}[how](distances)
    places = (whole[:, None] + offsets).clip(0, old - 1).astype(np.intp)
    return Taps(places, weights / weights.sum(1, keepdims=True))


def _tent(x: Floats) -> Floats:
    return (1 - abs(x)).clip(0)


def _cubic(x: Floats) -> Floats:
    """Keys 1981, "Cubic convolution interpolation for digital image processing", equation 4."""
    a, x = SHARPNESS, abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _lanczos(x: Floats) -> Floats:
    return np.where(abs(x) < LOBES, np.sinc(x) * np.sinc(x / LOBES), 0.0)
