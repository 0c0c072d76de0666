"""Maps of two values: where to divide grey, and lines made one pixel wide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
"""The eight neighbours (down, across), clockwise from the one above."""


def otsu(values: Pixels) -> int:
    """The grey value at which the two classes, up to it and above it, differ most (Otsu 1979, equation 18)."""
    counts = np.bincount(values.ravel(), minlength=256) / values.size
    below = np.cumsum(counts)
    sums = np.cumsum(counts * np.arange(256))
    apart = np.zeros(256)
    some = (below > 0) & (below < 1)
    apart[some] = (sums[-1] * below[some] - sums[some]) ** 2 / (below[some] * (1 - below[some]))
    return int(apart.argmax())


def thinned(mask: Mask) -> Mask:
    """Lines of (h, w) made one pixel wide, whole and in one piece (Zhang & Suen 1984, "A fast parallel algorithm for
    thinning digital patterns")."""
    while True:
        smaller = _peeled(_peeled(mask, first=True), first=False)
        if (smaller == mask).all():
            return mask
        mask = smaller


def _peeled(mask: Mask, *, first: bool) -> Mask:
    """Without the border to the south and east (`first`), or to the north and west, as far as nothing falls apart."""
    height, width = mask.shape
    padded = np.pad(mask, 1)
    near = [padded[1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in AROUND]
    count = np.sum(near, axis=0)
    begins = np.sum([~near[i] & near[(i + 1) % 8] for i in range(8)], axis=0)
    up, right, down, left = near[0::2]
    corners = (right & down & (up | left)) if first else (up & left & (right | down))
    return mask & ~((count >= 2) & (count <= 6) & (begins == 1) & ~corners)


def opened(mask: Mask) -> Mask:
    """What of a mask squares of 3 x 3 cover that fit into it: all but its thin parts. The border is no limit."""
    return _largest(~_largest(~mask))


def _largest(mask: Mask) -> Mask:
    """Where any of the 3 x 3 around is."""
    height, width = mask.shape
    padded = np.pad(mask, 1)
    return np.any([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0)
