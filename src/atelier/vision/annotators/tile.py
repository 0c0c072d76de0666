"""The image itself, as tile models see it: as it is, smaller, or blurred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, OptionSpec

if TYPE_CHECKING:
    from atelier.vision.annotating import Pixels

SAME = 1.1
"""Rates below this leave the image as it is."""


def smaller(pixels: Pixels, asked: Asked) -> Pixels:
    from atelier.vision.arrays.resample import resize

    rate = asked.options["rate"]
    if rate < SAME:
        return pixels
    height, width = (max(1, int(side / rate)) for side in pixels.shape[:2])
    return resize(pixels, width, height, "area")


def blurred(pixels: Pixels, asked: Asked) -> Pixels:
    from atelier.vision.arrays.filters import gaussian_bytes

    return gaussian_bytes(pixels, asked.options["sigma"])


SPECS = (
    Annotator(
        "tile_resample",
        "The image, reduced so that a tile model adds new details.",
        smaller,
        ("tile",),
        (OptionSpec("rate", 1, 1, 8, 0.01, "How many times smaller."),),
        frame="own",
    ),
    Annotator(
        "blur_gaussian",
        "The image blurred, for tile and blur models.",
        blurred,
        ("blur",),
        (OptionSpec("sigma", 9, 0.01, 64, 0.01, "How far, in pixels."),),
        frame="sized",
    ),
)
