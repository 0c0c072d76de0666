"""Edges by Canny 1986, "A computational approach to edge detection", as OpenCV computes them, bit for bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Integers = NDArray[np.int32]

FLAT = 13573
"""The tangent of 22.5 degrees in 32768ths: below it a direction counts as level."""
BITS = 15


def canny(pixels: Pixels, low: float, high: float) -> Pixels:
    """(h, w) of 0 and 255 for (h, w, 3): edges whose gradient is above `low` and that hang together with some above
    `high`. The gradient of a pixel is that of its steepest channel, and its size the sum of both parts (L1)."""
    across, down, size = _gradient(pixels)
    low, high = sorted((np.floor(low), np.floor(high)))
    crest = _crest(across, down, size, int(low))
    return _connected(crest, crest & (size > high))


def _gradient(pixels: Pixels) -> tuple[Integers, Integers, Integers]:
    """Across, down and their L1 norm, each (h, w)."""
    padded = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(np.int32)
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across, down = rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2]
    size = abs(across) + abs(down)
    steepest = size.argmax(2)[..., None]
    across, down, size = (np.take_along_axis(each, steepest, 2)[..., 0] for each in (across, down, size))
    return across, down, size


def _crest(across: Integers, down: Integers, size: Integers, low: int) -> NDArray[np.bool_]:
    """Where the gradient is above `low` and largest along its own direction, which is one of four. Equal neighbours:
    along a row or a column the first one wins, along a diagonal none."""
    height, width = size.shape
    around = np.pad(size, 1)

    def beside(y: int, x: int) -> Integers:
        return around[1 + y : 1 + y + height, 1 + x : 1 + x + width]

    # 64 bits: 4 * 255 * 2 shifted by 16 would still fit into 32, but not with the tangent added
    x, y = abs(across).astype(np.int64), abs(down).astype(np.int64) << BITS
    is_level, is_steep = y < x * FLAT, y > x * FLAT + (x << (BITS + 1))
    rises = (across ^ down) < 0
    level = (size > beside(0, -1)) & (size >= beside(0, 1))
    steep = (size > beside(-1, 0)) & (size >= beside(1, 0))
    first = np.where(rises, beside(-1, 1), beside(-1, -1))
    second = np.where(rises, beside(1, -1), beside(1, 1))
    slanted = (size > first) & (size > second)
    return (size > low) & np.where(is_level, level, np.where(is_steep, steep, slanted))


def _connected(candidates: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> Pixels:
    """The candidates that hang together with a seed, by any of 8 neighbours, as 255."""
    width = candidates.shape[1] + 2
    waiting = np.pad(candidates, 1).ravel()
    kept = np.zeros(waiting.shape, np.uint8)
    front = np.flatnonzero(np.pad(seeds, 1))
    neighbours = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    while front.size:
        waiting[front], kept[front] = False, 255
        around = (front[:, None] + neighbours).ravel()
        front = np.unique(around[waiting[around]])
    return kept.reshape(-1, width)[1:-1, 1:-1]
