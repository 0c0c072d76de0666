"""What is bright in all channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, OptionSpec

if TYPE_CHECKING:
    from atelier.vision.annotating import Pixels


def draw(pixels: Pixels, asked: Asked) -> Pixels:
    import numpy as np

    from atelier.vision.arrays.tones import grey

    return grey(np.where(pixels.min(2) > asked.options["threshold"], 255, 0).astype(np.uint8))


SPECS = (
    Annotator(
        "threshold",
        "White where an image is bright, black elsewhere.",
        draw,
        options=(OptionSpec("threshold", 127, 0, 255, 1, "White is what is above it in all channels."),),
    ),
)
