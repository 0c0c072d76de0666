"""What images are found by: what their infotext says, in a form that every database compares alike."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier.request.infotext.keys import Key

PROMPT, NEGATIVE = "prompt", "negative_prompt"
VERSION = 1
"""Of what is read here: facts of an earlier one are read again."""
LONGEST = 4000
"""Characters of a value: of longer prompts the rest is not searched."""
NAME = 64
"""Characters of a name."""
_OWN = frozenset({PROMPT, NEGATIVE, "width", "height", "size", "seed"})
MOST_INFOTEXT = 50_000
"""Characters that are read."""
_EXACT = 2**53
"""Whole numbers from here on, as seeds may be, are not all numbers of a database."""
_SIMPLE = re.compile(r"[^0-9a-z]+")


@dataclass(frozen=True, slots=True)
class Fact:
    """name: of a field of a request where one has it; value: `spelled`; number: None for what is none."""

    name: str
    value: str
    number: float | None


def spelled(text: str) -> str:
    """A text in ASCII, small letters, blanks as one space: each other character is Z and five letters from A to P, the
    digits of its number. So a text holds another exactly where the spelled one holds the other spelled one, whatever
    the database takes for a letter."""
    folded = " ".join(text.casefold().split())
    return "".join(c if " " <= c <= "~" else f"Z{_letters(ord(c))}" for c in folded)


def _letters(number: int) -> str:
    return "".join(chr(ord("A") + (number >> shift & 15)) for shift in (16, 12, 8, 4, 0))


def number_of(text: str) -> float | None:
    """The number that a text is, None where databases would not tell it from its neighbours."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < _EXACT else None


def name_of(said: str) -> str:
    """The name of what somebody calls a field, as infotexts or requests do; "" for what is none."""
    simple = _SIMPLE.sub("_", said.casefold()).strip("_")
    return simple if simple in _OWN else _names().get(simple, "")


@cache
def _names() -> Mapping[str, str]:
    """The fields of infotexts by all their names, in small letters with _ between."""
    from atelier.request.infotext.keys import ALL_KEYS

    found = {_SIMPLE.sub("_", said.casefold()).strip("_"): key.field for key in ALL_KEYS for said in _said(key)}
    return {**found, **{field: field for field in found.values()}}


def _said(key: Key) -> tuple[str, ...]:
    return (key.name, *key.aliases)


def facts_of(infotext: str, width: int, height: int, seed: int | None) -> tuple[Fact, ...]:
    """What an image is found by: its own size and seed, and what its infotext says beside them."""
    found = {"width": str(width), "height": str(height), "size": f"{width}x{height}"}
    if seed is not None:
        found["seed"] = str(seed)
    for name, value in _read(infotext[:MOST_INFOTEXT]):
        if name and len(name) <= NAME:
            found.setdefault(name, value)
    return tuple(Fact(name, spelled(value[:LONGEST]), number_of(value)) for name, value in found.items())


def _read(infotext: str) -> Iterator[tuple[str, str]]:
    from atelier.request.infotext.read import read

    found = read(infotext)
    yield PROMPT, found.prompt
    yield NEGATIVE, found.negative_prompt
    for key, value in found.pairs:
        yield name_of(key), value
