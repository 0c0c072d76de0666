"""The colours of an image without its shapes: it is seen through two smooth fields of noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from atelier.vision.annotating import Pixels

CELL = 256
"""Pixels between two values of the noise."""


def draw(pixels: Pixels, asked: Asked) -> Pixels:
    """The field across is drawn first."""
    height, width = pixels.shape[:2]
    across = _field(height, width, asked.random) * (width - 1)
    down = _field(height, width, asked.random) * (height - 1)
    return _seen(pixels, across, down)


def _field(height: int, width: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(h, w), 0 to 1. The noise has a cell more on each side, which is cut off."""
    from atelier.vision.arrays.resample import resize_floats
    from atelier.vision.arrays.tones import stretched

    noise = random.uniform(size=(height // CELL + 2, width // CELL + 2))
    smooth = resize_floats(noise, width + 2 * CELL, height + 2 * CELL, "cubic")
    return stretched(smooth[CELL : CELL + height, CELL : CELL + width])


def _seen(pixels: Pixels, across: NDArray[np.float64], down: NDArray[np.float64]) -> Pixels:
    """At each place the pixel at (across, down), between pixels the four around it in proportion."""
    import numpy as np

    height, width = pixels.shape[:2]
    x, y = across.astype(int), down.astype(int)
    right, below = np.minimum(x + 1, width - 1), np.minimum(y + 1, height - 1)
    part_x, part_y = (across - x)[..., None], (down - y)[..., None]
    upper = pixels[y, x] * (1 - part_x) + pixels[y, right] * part_x
    lower = pixels[below, x] * (1 - part_x) + pixels[below, right] * part_x
    return np.rint(upper * (1 - part_y) + lower * part_y).astype(np.uint8)


SPECS = (
    Annotator(
        "shuffle",
        "The colours of an image without its shapes, rearranged by the seed.",
        draw,
        ("ContentShuffleDetector", "content_shuffle"),
        frame="sized",
    ),
)
