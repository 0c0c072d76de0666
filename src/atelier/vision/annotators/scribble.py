"""Scribbles of an image: its dark lines, or its edges by differences of Gaussians (XDoG, Winnemoeller 2012)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, OptionSpec

if TYPE_CHECKING:
    from atelier.vision.annotating import Pixels

DARK = 127
"""Below this in some channel a line is dark."""
FINE, COARSE = 0.5, 5.0
"""Deviations in pixels of the two Gaussians."""


def dark_lines(pixels: Pixels, _: Asked) -> Pixels:
    import numpy as np

    from atelier.vision.arrays.tones import grey

    return grey(np.where(pixels.min(2) < DARK, 255, 0).astype(np.uint8))


def differences(pixels: Pixels, asked: Asked) -> Pixels:
    import numpy as np

    from atelier.vision.arrays.filters import gaussian
    from atelier.vision.arrays.tones import cut, grey

    values = pixels.astype(np.float64)
    darker = 255 - cut(255 - (gaussian(values, COARSE) - gaussian(values, FINE)).min(2)).astype(int)
    return grey(np.where(2 * darker > asked.options["threshold"], 255, 0).astype(np.uint8))


SPECS = (
    Annotator(
        "scribble",
        "The dark lines of a drawing on white, turned into white lines on black.",
        dark_lines,
        ("scribble_thr", "fake_scribble"),
    ),
    Annotator(
        "scribble_xdog",
        "Edges like hand-drawn scribbles, by differences of Gaussians.",
        differences,
        options=(OptionSpec("threshold", 32, 1, 64, 1, "Less draws more."),),
    ),
)
