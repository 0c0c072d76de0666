"""Edges by Canny 1986."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, OptionSpec

if TYPE_CHECKING:
    from atelier.vision.annotating import Pixels


def draw(pixels: Pixels, asked: Asked) -> Pixels:
    from atelier.vision.arrays.canny import canny
    from atelier.vision.arrays.tones import grey

    return grey(canny(pixels, asked.options["low"], asked.options["high"]))


SPECS = (
    Annotator(
        "canny",
        "Hard edges, one pixel wide, white on black.",
        draw,
        ("CannyDetector",),
        (
            OptionSpec("low", 100, 0, 256, 1, "Edges that go on from a strong one have at least this gradient."),
            OptionSpec("high", 200, 0, 256, 1, "Edges have more than this gradient somewhere."),
        ),
    ),
)
