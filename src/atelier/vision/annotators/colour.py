"""Colours in large squares (T2I-Adapter's colour model), and the brightness of an image (recolouring)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.vision.annotating import Annotator, Asked, OptionSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from atelier.vision.annotating import Pixels

SQUARE = 64
"""Pixels of a square's side, about."""
GAMMA = OptionSpec("gamma", 1, 0.1, 2, 0.001, "Exponent of the brightness; less is brighter.")


def squares(pixels: Pixels, _: Asked) -> Pixels:
    from atelier.vision.arrays.resample import resize

    height, width = pixels.shape[:2]
    small = resize(pixels, max(1, width // SQUARE), max(1, height // SQUARE), "cubic")
    return resize(small, width, height, "nearest")


def lightness(pixels: Pixels, asked: Asked) -> Pixels:
    """CIE L* as a grey image."""
    import numpy as np

    from atelier.vision.colour import lab

    return _curved(np.rint(lab(pixels / 255)[..., 0] * 2.55) / 255, asked.options["gamma"])


def intensity(pixels: Pixels, asked: Asked) -> Pixels:
    """The brightest channel (V of HSV) as a grey image."""
    return _curved(pixels.max(2) / 255, asked.options["gamma"])


def _curved(values: NDArray[np.float64], gamma: float) -> Pixels:
    """A hair is added before fractions are cut off, so that a gamma of 1 changes nothing."""
    from atelier.vision.arrays.tones import cut, grey

    return grey(cut(values**gamma * 255 + 1e-4))


SPECS = (
    Annotator(
        "color", "Colours in squares of 64 pixels.", squares, ("t2ia_color_grid", "ColorDetector"), frame="sized"
    ),
    Annotator(
        "recolor_luminance", "The lightness of an image, without its colours.", lightness, (), (GAMMA,), frame="own"
    ),
    Annotator(
        "recolor_intensity",
        "The brightest channel of an image, without its colours.",
        intensity,
        (),
        (GAMMA,),
        frame="own",
    ),
)
