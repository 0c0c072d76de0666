"""Which concept an image shows to an eye that forgives little: nothing is blurred, and almost nothing may be shifted.

The foreground, all that differs from the image's own background colour, is compared with the rendering of every concept
at the very place and size, on that colour. What is compared is detail: blotches of the right colours in the right place
are the nearest to their concept in every plain distance, and nobody would recognise them. With J the foreground minus
the background colour and F a rendering minus it, both without their means over squares of SQUARE pixels,

    d(J, F) = |J - F|^2 / ((|J|^2 + |F|^2) / 2)

at the best of the shifts of up to SHIFT pixels: 0 for equal images, 2 for unrelated ones and for those without detail.
The nearest concept is recognised if its d is FAR at most. Nothing is learned.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atelier.train.data import scenes
from atelier.train.data.scenes import Placed, Scene
from atelier.train.judge import Kind

Floats = NDArray[np.float32]

CUT = 16
"""What differs from the background colour by no more than this in any channel, of 255, is background."""
SHIFT = 1
"""Pixels that a thing may stand off its place in an image 128 wide; half a cell."""
SQUARE = 11
"""Pixels of an image 128 wide, an odd number: what is coarser than this is not compared."""
FAR = 1.0
"""More of the detail is explained by the rendering than is not."""
NOBODY = ""
"""The concept of an image in which none is recognised."""
FRAME = 3
"""Width in cells of the border whose median is the background colour."""


def recognised(image: NDArray[np.uint8], placed: Placed, kind: Kind) -> str:
    """The concept whose rendering at the place of `placed` is nearest to `image` (uint8 (size, size, 3)), or NOBODY.

    kind: "left" or "right" for one of a pair, of which only that half is looked at.
    """
    size = len(image)
    colour = _ground(image)
    foreground = image.astype(np.float32) - colour
    foreground[(np.abs(foreground) <= CUT).all(-1)] = 0
    low, high = {"left": (0, size // 2), "right": (size // 2, size)}.get(kind, (0, size))
    foreground[:, :low] = foreground[:, high:] = 0
    distances = _distances(detail(foreground), colour, _renderings(placed.x, placed.y, placed.extent, size))
    nearest = int(distances.argmin())
    return scenes.concepts()[nearest].name if distances[nearest] <= FAR else NOBODY


def detail(images: Floats) -> Floats:
    """Images (..., n, n, C) minus their means over squares around every pixel; beyond the edge is nothing."""
    size = images.shape[-2]
    reach = max(1, SQUARE * size // 128) // 2
    total = images
    for axis in (-3, -2):
        margin = [(0, 0)] * images.ndim
        margin[axis] = (reach + 1, reach)
        sums = np.pad(total, margin).cumsum(axis, dtype=np.float64)
        width = 2 * reach + 1
        ahead = np.take(sums, range(width, width + size), axis)
        total = ((ahead - np.take(sums, range(size), axis)) / width).astype(np.float32)
    return images - total


@dataclass(frozen=True, slots=True)
class _Renderings:
    """The detail of all N concepts at one place: of RGB on black (N, size * size * 3) and of opacity (N, size * size),
    both from values of 0 to 255."""

    colours: Floats
    opacity: Floats
    own: Floats
    """|colours|^2, colours . opacity for each channel, |opacity|^2: (N, 5)."""


@functools.lru_cache(maxsize=3)
def _renderings(x: float, y: float, extent: float, size: int) -> _Renderings:
    def drawn(ground: str) -> Floats:
        things = (Placed(concept.name, x, y, extent) for concept in scenes.concepts())
        return np.stack([scenes.render(Scene("small", (t,), ground, ""), size) for t in things]).astype(np.float32)

    black = drawn("black")
    opacity = detail(255 - (drawn("white") - black).mean(-1, keepdims=True))[..., 0]
    black = detail(black)
    own = np.concatenate(
        (
            np.square(black).sum((1, 2, 3))[:, None],
            np.einsum("nhwc,nhw->nc", black, opacity),
            np.square(opacity).sum((1, 2))[:, None],
        ),
        axis=1,
    )
    return _Renderings(black.reshape(len(black), -1), opacity.reshape(len(black), -1), own)


def _distances(foreground: Floats, colour: Floats, to: _Renderings) -> Floats:
    """d of every concept at its best shift: (N,). With F = colours - opacity * colour / 255."""
    reach = range(-max(1, SHIFT * len(foreground) // 128), max(1, SHIFT * len(foreground) // 128) + 1)
    moved = np.stack([np.roll(foreground, (dy, dx), (0, 1)) for dy in reach for dx in reach])
    tone = colour / np.float32(255)
    inner = to.colours @ moved.reshape(len(moved), -1).T - to.opacity @ (moved @ tone).reshape(len(moved), -1).T
    energy = to.own[:, 0] - 2 * to.own[:, 1:4] @ tone + to.own[:, 4] * float(tone @ tone)
    total = energy + float(np.square(foreground).sum()) + 1e-6
    return 2 - 4 * inner.max(1) / total


def _ground(image: NDArray[np.uint8]) -> Floats:
    """The median colour of the border."""
    width = FRAME * len(image) // scenes.CELLS
    inside = np.zeros(image.shape[:2], bool)
    inside[width:-width, width:-width] = True
    return np.median(image[~inside], axis=0).astype(np.float32)
