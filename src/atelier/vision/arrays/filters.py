"""Filters over arrays: Gaussian, Sobel, the thinning of ridges. Beyond the border the image is mirrored, its outermost
pixels not repeated, but where something else is said."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]

LINES = (((0, -1), (0, 1)), ((-1, 0), (1, 0)), ((-1, -1), (1, 1)), ((-1, 1), (1, -1)))
"""The two neighbours (down, across) along a row, a column and both diagonals."""


def gaussian(values: Floats, sigma: float, *, reach: float = 4.0) -> Floats:
    """(h, w) or (h, w, C) blurred; the kernel ends at about `reach` deviations, as OpenCV's does for floats (4)."""
    for axis in (1, 0):
        values = _convolved(values, _kernel(sigma, reach), axis)
    return values


def gaussian_bytes(values: Pixels, sigma: float) -> Pixels:
    """The same for bytes, in numbers of 8 binary places as OpenCV computes them: kernels end at 3 deviations."""
    kernel = _in_eighths(_kernel(sigma, 3.0)).astype(np.float64)
    whole = values.astype(np.float64)
    for axis in (1, 0):
        whole = _convolved(whole, kernel, axis)
    return ((whole.astype(np.int64) + (1 << 15)) >> 16).clip(0, 255).astype(np.uint8)


def _kernel(sigma: float, reach: float) -> Floats:
    half = (int(np.rint(sigma * reach * 2 + 1)) | 1) // 2
    kernel = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def _in_eighths(kernel: Floats) -> NDArray[np.int64]:
    """The kernel in 256ths that sum to 256: what one weight loses in rounding goes to the next one inwards."""
    half = len(kernel) // 2
    rounded, lost = np.zeros(len(kernel), np.int64), 0.0
    for i in range(half):
        wanted = kernel[i] * 256 + lost
        rounded[i] = rounded[-1 - i] = int(np.rint(wanted))
        lost = wanted - rounded[i]
    rounded[half] = 256 - rounded.sum()
    return rounded


def _convolved(values: Floats, kernel: Floats, axis: int) -> Floats:
    half, length = len(kernel) // 2, values.shape[axis]
    padded = values.take(mirrored(length, half), axis)

    def beside(place: int) -> Floats:
        return padded[place : place + length] if axis == 0 else padded[:, place : place + length]

    total = beside(half) * kernel[half]
    for place in range(half):  # kernels are the same to both sides
        total += kernel[place] * (beside(place) + beside(2 * half - place))
    return total


def mirrored(length: int, margin: int) -> NDArray[np.intp]:
    """Indices from -margin to length + margin, brought inside by mirroring at the outermost pixels."""
    if length == 1:
        return np.zeros(1 + 2 * margin, np.intp)
    period = 2 * (length - 1)
    places = np.arange(-margin, length + margin) % period
    return np.where(places < length, places, period - places)


def sobel(values: Floats) -> tuple[Floats, Floats]:
    """Derivatives across and down of (h, w), by kernels of 3 x 3 whose weights sum to 8 in size."""
    height, width = values.shape
    padded = values[mirrored(height, 1)][:, mirrored(width, 1)]
    return sobel_inside(padded)


def sobel_inside(padded: Floats) -> tuple[Floats, Floats]:
    """The same of (h + 2, w + 2, ...), of which the border is the surroundings."""
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def ridges(values: Floats) -> Floats:
    """(h, w) with only what is largest of three along a row, a column or a diagonal; 0 elsewhere. Beyond the border
    nothing is larger."""
    height, width = values.shape
    padded = np.pad(values, 1, constant_values=-np.inf)
    kept = np.zeros(values.shape, bool)
    for line in LINES:
        a, b = (padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in line)
        kept |= (values >= a) & (values >= b)
    return np.where(kept, values, 0.0)


def scribbled(edges: Pixels) -> Pixels:
    """Soft edges (h, w) as somebody would scribble them: their ridges, thick and round. 0 and 255 only.

    The rule of ControlNet's authors: smooth, keep ridges above the middle, blur, and draw what is above 4.
    """
    thin = np.where(ridges(gaussian(edges.astype(np.float64), 3.0)) > 127, 255, 0).astype(np.uint8)
    return np.where(gaussian_bytes(thin, 3.0) > 4, 255, 0).astype(np.uint8)
