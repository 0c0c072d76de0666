"""Image files of whatever kind, opened with care: a broken one is one line that names it."""

from __future__ import annotations

import io
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from atelier.errors import BadFile
from atelier.train.data.shards import content, shard_of

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
BROKEN = (
    OSError,
    Image.DecompressionBombError,
    ValueError,
    SyntaxError,
    struct.error,
    RuntimeError,
    EOFError,
    TypeError,
    LookupError,
)
"""What Pillow raises for a damaged file, by format."""
DEEP = ("I", "F")
"""Modes of whole and of broken numbers that nobody says the range of."""
ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})
"""Values of EXIF's orientation that exchange width and height."""


@contextmanager
def opened(path: Path) -> Generator[Image.Image]:
    """The image in a file or shard, its header read. Raises BadFile, also for what Pillow raises as it is decoded."""
    within = shard_of(path)
    if within is None and not path.is_file():  # also a pipe, which would never end
        raise BadFile(path, "is no file, or a link to one that is not there: replace or remove it")
    try:
        with Image.open(path if within is None else io.BytesIO(content(*within))) as image:
            yield image
    except BROKEN as error:
        raise _broken(path, error) from error


def upright(image: Image.Image) -> Image.Image:
    """The image as its orientation mark says that it is looked at."""
    return ImageOps.exif_transpose(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of `upright(image)`, without decoding it."""
    width, height = image.size
    return (height, width) if image.getexif().get(ORIENTATION) in TURNED else (width, height)


def flat(image: Image.Image, ground: str = "white") -> Image.Image:
    """RGB; transparent parts over `ground`; of 16 bits the upper eight. ValueError for numbers without a range."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in DEEP:
        raise ValueError(f"its numbers are of mode {image.mode}, whose white nobody knows; save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layers.size, ground), layers).convert("RGB")


def _broken(path: Path, error: Exception) -> BadFile:
    reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
    return BadFile(path, f"broken image ({reason}): replace or remove it")
