"""Regions of an image as text: where each is, what it shows, how much it counts.

    box=0,0,0.5,1: a red apple
    mask=left.png weight=2 negative="blurry, dark": a green frog

First a place: a box (left, top, right, bottom, as shares of the image) or a mask file; then what is optional; then a
colon and the prompt. Values with spaces, colons or quotes are JSON strings. A list of regions is one text as well, one
region a line; a line break inside of one has a space behind it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from atelier.errors import BadInput

MAX_WEIGHT = 100.0
MAX_REGIONS = 32
"""Each is a denoising of its own: more are a mistake."""
SHOWN = 60
"""Characters of a region in messages."""
EXAMPLE = 'write it as "box=0,0,0.5,1: a red apple" or "mask=left.png: a red apple"'
_PART = re.compile(r'[\s,;]*(\w+)\s*=\s*("(?:[^"\\]|\\.)*"|(?:[^\s:"]|:(?=[\\/]))*)', re.DOTALL)
"""A key and its value; a colon is part of a value only where a path goes on behind it (C:\\masks)."""
_SEPARATOR = re.compile(r"\s*:")
_PLAIN = re.compile(r"[^\s:\"]+[^\s:\",;]|[^\s:\",;]")
_NEXT = re.compile(r"\n(?! )")
KEYS = frozenset({"box", "mask", "weight", "negative"})


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
    found, at = _head(text)
    separator = _SEPARATOR.match(text, at)
    if separator is None:
        raise _bad(text, f"{_short(text[at:].strip())!r} is neither key=value nor a colon; {EXAMPLE}")
    prompt = text[separator.end() :].strip()
    if not prompt:
        raise _bad(text, f"says nothing behind its colon; {EXAMPLE}")
    return Region(_place(text, found), prompt, found.get("negative"), _weight(text, found.get("weight", "1")))


def region_text(region: Region) -> str:
    """The text of a region; parsing it gives the same region."""
    place = region.place
    parts = [f"mask={_value(place)}" if isinstance(place, str) else f"box={','.join(map(_shortest, place))}"]
    if region.weight != 1:
        parts.append(f"weight={_shortest(region.weight)}")
    if region.negative_prompt is not None:
        parts.append(f"negative={_value(region.negative_prompt)}")
    return f"{' '.join(parts)}: {region.prompt}"


def joined(regions: Sequence[str]) -> str:
    """Regions as one text."""
    return "\n".join(region.strip().replace("\n", "\n ") for region in regions)


def split(text: str) -> tuple[str, ...]:
    """The inverse of `joined`; empty lines are no regions."""
    return tuple(line.replace("\n ", "\n").strip() for line in _NEXT.split(text) if line.strip())


def _head(text: str) -> tuple[dict[str, str], int]:
    """The pairs before the prompt, and where they end."""
    found: dict[str, str] = {}
    at = 0
    while part := _PART.match(text, at):
        key, value = part.groups()
        if key not in KEYS:
            raise _bad(text, f"{key!r} is no key of a region: they are box, mask, weight, negative")
        if key in found:
            raise _bad(text, f"{key} is given twice: leave one out")
        found[key] = _unquoted(text, key, value)
        at = part.end()
    return found, at


def _unquoted(text: str, key: str, value: str) -> str:
    if not value.startswith('"'):
        return value.rstrip(",;")
    try:
        return str(json.loads(value, strict=False))
    except ValueError:
        raise _bad(text, f"the value of {key} is no JSON string") from None


def _place(text: str, found: Mapping[str, str]) -> Shares | str:
    if ("box" in found) == ("mask" in found):
        raise _bad(text, f"needs one place, a box or a mask; {EXAMPLE}")
    if "mask" in found:
        if not found["mask"]:
            raise _bad(text, f"names no mask file; {EXAMPLE}")
        return found["mask"]
    numbers = [_number(part) for part in found["box"].split(",")]
    if len(numbers) != 4 or not all(0 <= number <= 1 for number in numbers):
        raise _bad(text, "a box is four shares of the image, 0 to 1: left,top,right,bottom")
    box = Shares(*numbers)
    if box.left >= box.right or box.top >= box.bottom:
        raise _bad(text, "the box is empty: left must be less than right, and top less than bottom")
    return box


def _weight(text: str, value: str) -> float:
    weight = _number(value)
    if not 0 < weight <= MAX_WEIGHT:
        raise _bad(text, f"weight {_short(value)}: must be a number above 0, at most {MAX_WEIGHT:g}")
    return weight


def _number(text: str) -> float:
    """NaN for what is no number, which is in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _shortest(number: float) -> str:
    """As few digits as say the number."""
    return repr(number).removesuffix(".0")


def _value(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _bad(text: str, why: str) -> BadInput:
    error = BadInput(f"region {_short(text)!r}: {why}")
    error.field = "regions"
    return error


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
