"""Cutting what is too large for one piece into overlapping tiles, and putting the pieces together without seams."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 32
"""Pixels of the input that a tile sees beyond what is kept of it, at least: what a network makes of a pixel depends on
its surroundings, and at a tile's edge they are missing."""
FEATHER = 16
"""Pixels over which one tile passes into the next, in the middle of their overlap."""


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one side: where it begins, how long it is, and where, from its own beginning, it fades in."""

    start: int
    size: int
    fade_from: int = 0
    fade_to: int = 0

    @property
    def end(self) -> int:
        return self.start + self.size


def spans(length: int, tile: int, *, margin: int = MARGIN, feather: int = FEATHER, multiple: int = 1) -> list[Span]:
    """Tiles of equal size, at most `tile`, that cover `length` and overlap by at least about twice the margin.

    `length` must be a multiple of `multiple`; starts and sizes are, too. Raises ValueError for a tile that is no larger
    than its margins.
    """
    if length <= tile:
        return [Span(0, length)]
    overlap = 2 * margin
    kept = tile - tile % multiple - overlap
    if kept <= 0:
        raise ValueError(f"a tile of {tile} pixels is too small for margins of {margin}")
    count = -(-(length - overlap) // kept)
    size = -(-(length + (count - 1) * overlap) // count)
    size += -size % multiple
    starts = [_down(i * (length - size) / (count - 1), multiple) for i in range(count)]
    return [Span(0, size), *(_faded(before, start, size, feather) for before, start in pairwise(starts))]


def _faded(before: int, start: int, size: int, feather: int) -> Span:
    """A tile behind one that begins at `before`: it fades in around the middle of their overlap."""
    overlap = before + size - start
    width = min(feather, overlap)
    first = (overlap - width) // 2
    return Span(start, size, first, first + width)


def _down(value: float, multiple: int) -> int:
    return int(value) // multiple * multiple


def lay(canvas: NDArray[np.uint8], piece: NDArray[Any], span: Span, scale: int, axis: int) -> None:
    """Lays the piece that was made of a tile onto the canvas, along one axis (0: down, 1: across), tiles in order.

    canvas: (H, W, 3); piece: the same but along the axis, where it is of the tile's size by `scale`; 0 to 255. Rows are
    composed of tiles first, then the image of rows: laid in both directions at once, a tile's far edge, of which its
    neighbour has the better surroundings, would stay visible where rows pass into each other.
    """
    kept = slice(span.fade_from * scale, span.size * scale)
    along = (slice(None),) * axis
    target = canvas[(*along, slice(span.start * scale + kept.start, span.end * scale))]
    weight = _weights(span, scale)[kept].reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    under = target.astype(np.float32)
    target[...] = np.rint(under + (piece[(*along, kept)] - under) * weight)


def _weights(span: Span, scale: int) -> NDArray[np.float32]:
    """The share of the new tile along its side: nothing before it fades in, all of it behind."""
    places = np.arange(span.size * scale, dtype=np.float32) + np.float32(0.5)
    if not span.fade_to:
        return np.ones_like(places)
    width = (span.fade_to - span.fade_from) * scale
    return np.clip((places - span.fade_from * scale) / max(width, 1), 0, 1).astype(np.float32)
