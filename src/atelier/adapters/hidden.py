"""Textual inversions that A1111 hides in the pixels of an image, in columns left and right of a picture.

The low four bits of these pixels' numbers are data: left of the first black column the low halves of all bytes, right
of the last one the high halves, each mixed with one row of made-up numbers. The bytes are compressed JSON. Images of
lossless formats keep them where programs drop the text that says the same.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

Nibbles = npt.NDArray[np.uint8]
FACTOR, STEP, BELOW = 1664525, 1013904223, 255
"""Of the made-up numbers: each is FACTOR times the one before plus STEP, in 32 bits; its rest by BELOW is used."""
LOW, HIGH = np.uint8(0x0F), np.uint8(4)
"""The bits of a half, and by how many the high one is shifted."""
ZLIB = b"\x78"
"""What compressed data begin with."""
MOST_PIXELS, MOST_BYTES = 20_000_000, 32_000_000
"""Of an image that is looked into, and of what is unpacked."""


def packed(image: Image.Image) -> bytes | None:
    """The compressed bytes in the pixels; None where there are none. Raises OSError for a damaged image."""
    if image.width * image.height > MOST_PIXELS:
        return None
    halves = _without_border(np.asarray(image.convert("RGB"))) & LOW
    (black,) = np.nonzero(~halves.any(axis=(0, 2)))
    if len(black) == 0:
        return None
    low, high = _plain(halves[:, : black[0]]), _plain(halves[:, black[-1] + 1 :])
    if low.size != high.size:
        return None
    found = (low | high << HIGH).tobytes()
    return found if found.startswith(ZLIB) else None


def unpacked(found: bytes) -> bytes:
    """What was compressed, cut where it is longer than any vectors. Raises ValueError for what is damaged."""
    try:
        return zlib.decompressobj().decompress(found, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error


def made_up(count: int) -> Nibbles:
    """The first `count` of the numbers that the halves are mixed with, (count,), each 0 to 254."""
    powers = np.full(count, FACTOR, np.uint32)
    powers[:1] = 1
    sums = np.add.accumulate(np.multiply.accumulate(powers, dtype=np.uint32), dtype=np.uint32)
    return (sums * np.uint32(STEP) % np.uint32(BELOW)).astype(np.uint8)


def _without_border(pixels: Nibbles) -> Nibbles:
    """Without the black rows and columns around everything else."""
    (rows,), (columns,) = np.nonzero(pixels.any(axis=(1, 2))), np.nonzero(pixels.any(axis=(0, 2)))
    if len(rows) == 0:
        return pixels[:0, :0]
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _plain(mixed: Nibbles) -> Nibbles:
    """The halves row by row, the made-up numbers taken out."""
    return mixed.reshape(-1) ^ (made_up(mixed.size) & LOW)
