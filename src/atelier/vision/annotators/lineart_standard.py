"""Lines of a drawing, by how much darker they are than their surroundings. No network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, OptionSpec

if TYPE_CHECKING:
    from atelier.vision.annotating import Pixels

LEAST = 16
"""What a usual line is at least taken to be darker by: an image without lines stays black."""


def draw(pixels: Pixels, asked: Asked) -> Pixels:
    import numpy as np

    from atelier.vision.arrays.filters import gaussian
    from atelier.vision.arrays.tones import cut, grey

    values = pixels.astype(np.float64)
    darker = (gaussian(values, asked.options["sigma"]) - values).min(2).clip(0, 255)
    lines = darker[darker > asked.options["intensity"]]
    usual = max(LEAST, float(np.median(lines))) if lines.size else LEAST
    return grey(cut(darker / usual * 127))


SPECS = (
    Annotator(
        "lineart_standard",
        "The lines of a drawing on white as white lines on black, thin ones weaker; needs no file.",
        draw,
        ("lineart_standard (from white bg & black line)", "LineartStandardDetector"),
        (
            OptionSpec("sigma", 6, 0.1, 64, 0.1, "How far surroundings reach, in pixels."),
            OptionSpec("intensity", 8, 0, 255, 1, "Lines are darker than their surroundings by more than this."),
        ),
    ),
)
