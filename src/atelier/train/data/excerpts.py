"""What a step sees of a training image: a part of one bucket's size, flipped or not, and the words beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from atelier.errors import BadFile
from atelier.train.data.opening import flat, opened, upright

SKEW = 0.01
"""How much a mask's proportions may differ from those of its image: rounding when both were made smaller."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A training image as one step sees it. Sizes are (width, height) in pixels.

    path: the image; size: of the bucket; scaled: what the whole image is resized to, at least `size`; left, top: of the
    part in the scaled image; flipped: left and right are exchanged afterwards; original: the whole image, upright.
    weight: of its loss; is_class: an image of the class, which keeps the model from forgetting it.
    mask: an image of the same proportions that says what counts; the image itself for its alpha channel. is_drawn:
    whether each step sees another part of the image.
    """

    path: Path
    size: Size
    scaled: Size
    left: int
    top: int
    flipped: bool
    original: Size
    caption: str
    weight: float = 1.0
    is_class: bool = False
    mask: Path | None = None
    is_drawn: bool = False


def pixels(excerpt: Excerpt) -> NDArray[np.uint8]:
    """What is seen: RGB (h, w, 3). The orientation mark is obeyed, transparent parts are white. Raises BadFile."""
    with opened(excerpt.path) as image:
        return np.array(cut(flat(upright(image)), excerpt))


def mask(excerpt: Excerpt) -> NDArray[np.float32] | None:
    """How much every pixel counts, 0 to 1: (h, w), from white of the mask to black or transparent. None: all of them
    count, since there is no mask, or no alpha channel. Raises BadFile for a mask of other proportions than its image.
    """
    if excerpt.mask is None:
        return None
    with opened(excerpt.mask) as image:
        if excerpt.mask != excerpt.path:
            grey = flat(upright(image), "black").convert("L")
        elif image.has_transparency_data:
            grey = upright(image).convert("RGBA").getchannel("A")
        else:
            return None
        check_proportions(excerpt.mask, grey.size, excerpt)
        return np.array(cut(grey, excerpt), np.float32) / np.float32(255)


def cut(image: Image.Image, excerpt: Excerpt) -> Image.Image:
    """What an excerpt shows of an image, or of what belongs to it (a mask, a hint)."""
    scaled = image if image.size == excerpt.scaled else image.resize(excerpt.scaled, Image.Resampling.LANCZOS)
    width, height = excerpt.size
    part = scaled.crop((excerpt.left, excerpt.top, excerpt.left + width, excerpt.top + height))
    return ImageOps.mirror(part) if excerpt.flipped else part


def check_proportions(path: Path, size: Size, excerpt: Excerpt) -> None:
    """Raises BadFile for what belongs to an image, a mask or a hint, and is of other proportions."""
    (width, height), (across, down) = size, excerpt.original
    if abs(width * down - height * across) > SKEW * width * down:
        raise BadFile(path, f"is {width}x{height} and its image {across}x{down}: give one of the image's proportions")
