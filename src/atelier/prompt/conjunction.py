"""AND: several prompts that act together, each with a weight: `a cat AND a dog :1.3`."""

from __future__ import annotations

import re

from atelier.prompt.text import Warn, clamped, silent, words

AND = "AND"

_WEIGHT = re.compile(r"[+-]?+(?:\d++(?:\.\d*+)?+|\.\d++)")


def split_and(text: str) -> tuple[str, ...]:
    """The text cut at every AND that stands as a word of its own, in upper case; at least one part."""
    parts: list[str] = []
    at = 0
    for found in words(text, AND):
        parts.append(text[at:found])
        at = found + len(AND)
    return (*parts, text[at:])


def split_weight(part: str) -> tuple[str, str]:
    """The part as (text, tail): the tail holds the space at its end and the weight before that, `: 1.3`, if any.

    The weight has a sign or none, digits and a point, no exponent. Without a weight the tail is space alone.
    """
    bare = part.rstrip()
    colon = bare.rfind(":")
    if colon < 0 or not _WEIGHT.fullmatch(bare[colon + 1 :].lstrip()):
        return bare, part[len(bare) :]
    text = bare[:colon].rstrip()
    return text, part[len(text) :]


def tail_weight(tail: str, warn: Warn = silent) -> float:
    """The weight in the tail of a part; 1 if there is none. A weight that is not finite is clamped, with a warning."""
    number = tail.strip().removeprefix(":").strip()
    return clamped(float(number), warn) if number else 1.0
