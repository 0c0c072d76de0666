"""Images that look alike, by a perceptual hash: whether it gets brighter from each point of a small image to the next.

Neal Krawetz, "Kind of Like That" (2013), calls it dHash. It does not see colours, and nothing in an image of one
colour; so the mean colour is compared as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16
"""Points in a row and in a column: a hash of 256 bits."""
STEP = 2
"""Brightness, of 255, that the next point must gain: less is what saving an image anew changes."""
FAR = 12
"""Bits in which images that look alike differ at most. Of 60 emoji scenes of 128 pixels, the same resized, or saved as
JPEG of quality 50, differed in 10 at most, and two others in 30 at least."""
APART = 12
"""How far the mean colours of images that look alike are apart at most, of 255, in each channel."""


@dataclass(frozen=True, slots=True)
class Look:
    """What images are compared by: the hash in bytes, and the mean of red, green and blue."""

    bits: bytes
    mean: tuple[float, float, float]


def look(image: NDArray[np.uint8]) -> Look:
    """Of an RGB image (H, W, 3)."""
    whole = Image.fromarray(image)
    grey = whole.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.BOX)
    rows = np.asarray(grey, np.int16)
    red, green, blue = image.reshape(-1, 3).mean(0)
    return Look(np.packbits(rows[:, 1:] - rows[:, :-1] >= STEP).tobytes(), (float(red), float(green), float(blue)))


def alike(looks: Sequence[Look]) -> list[list[int]]:
    """Groups of two or more that look alike, directly or one by way of another, as numbers in ascending order."""
    bits = np.array([np.frombuffer(own.bits, np.uint8) for own in looks])
    means = np.array([own.mean for own in looks])
    group = list(range(len(looks)))
    for number in range(1, len(looks)):
        differing = np.unpackbits(bits[:number] ^ bits[number], axis=1).sum(1)
        near = (differing <= FAR) & (np.abs(means[:number] - means[number]).max(1) <= APART)
        joined = {group[int(other)] for other in np.flatnonzero(near)}
        if joined:
            first = min(joined)
            group = [first if own in joined else own for own in group]
            group[number] = first
    found: dict[int, list[int]] = {}
    for number, own in enumerate(group):
        found.setdefault(own, []).append(number)
    return [numbers for numbers in found.values() if len(numbers) > 1]
