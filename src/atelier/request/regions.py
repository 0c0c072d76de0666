"""Regions of an image as text: where each is, what it shows, how much it counts.

    box=0,0,0.5,1: a red apple
    mask=left.png weight=2 negative="blurry, dark": a green frog

First a place: a box (left, top, right, bottom, as shares of the image) or a mask file; then what is optional; then a
colon and the prompt (see `request.spoken`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from atelier.errors import BadInput
from atelier.request.spoken import digits, number, pairs, quoted, short

MAX_WEIGHT = 100.0
MAX_REGIONS = 32
"""Each is a denoising of its own: more are a mistake."""
EXAMPLE = 'write it as "box=0,0,0.5,1: a red apple" or "mask=left.png: a red apple"'
_SEPARATOR = re.compile(r"\s*:")
KEYS = ("box", "mask", "weight", "negative")


class Shares(NamedTuple):
    """A rectangle as shares of the image, 0 to 1; right and bottom are outside of it."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Region:
    """place: a rectangle, or the path of a mask; negative_prompt: None for that of the image; weight: above 0."""

    place: Shares | str
    prompt: str
    negative_prompt: str | None = None
    weight: float = 1.0


def parse_region(text: str) -> Region:
    """Raises BadInput in one line."""
    found, at = pairs(text, 0, KEYS, "a region", partial(_bad, text))
    separator = _SEPARATOR.match(text, at)
    if separator is None:
        raise _bad(text, f"{short(text[at:].strip())!r} is neither key=value nor a colon; {EXAMPLE}")
    prompt = text[separator.end() :].strip()
    if not prompt:
        raise _bad(text, f"says nothing behind its colon; {EXAMPLE}")
    return Region(_place(text, found), prompt, found.get("negative"), _weight(text, found.get("weight", "1")))


def region_text(region: Region) -> str:
    """The text of a region; parsing it gives the same region."""
    place = region.place
    parts = [f"mask={quoted(place)}" if isinstance(place, str) else f"box={','.join(map(digits, place))}"]
    if region.weight != 1:
        parts.append(f"weight={digits(region.weight)}")
    if region.negative_prompt is not None:
        parts.append(f"negative={quoted(region.negative_prompt)}")
    return f"{' '.join(parts)}: {region.prompt}"


def _place(text: str, found: Mapping[str, str]) -> Shares | str:
    if ("box" in found) == ("mask" in found):
        raise _bad(text, f"needs one place, a box or a mask; {EXAMPLE}")
    if "mask" in found:
        if not found["mask"]:
            raise _bad(text, f"names no mask file; {EXAMPLE}")
        return found["mask"]
    numbers = [number(part) for part in found["box"].split(",")]
    if len(numbers) != 4 or not all(0 <= number <= 1 for number in numbers):
        raise _bad(text, "a box is four shares of the image, 0 to 1: left,top,right,bottom")
    box = Shares(*numbers)
    if box.left >= box.right or box.top >= box.bottom:
        raise _bad(text, "the box is empty: left must be less than right, and top less than bottom")
    return box


def _weight(text: str, value: str) -> float:
    weight = number(value)
    if not 0 < weight <= MAX_WEIGHT:
        raise _bad(text, f"weight {short(value)}: must be a number above 0, at most {MAX_WEIGHT:g}")
    return weight


def _bad(text: str, why: str) -> BadInput:
    error = BadInput(f"region {short(text)!r}: {why}")
    error.field = "regions"
    return error
