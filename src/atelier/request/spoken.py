"""Pairs key=value inside texts that say several things: regions and controls.

A value with spaces, colons or quotes in it is a JSON string. A list of such texts is one text as well, one to a line; a
line break inside of one has a space behind it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Sequence

from atelier.errors import BadInput

SHOWN = 60
"""Characters of such a text in messages."""
_PAIR = re.compile(r'[\s,;]*(\w+)\s*=\s*("(?:[^"\\]|\\.)*"|(?:[^\s:"]|:(?=[\\/]))*)', re.DOTALL)
"""A key and its value; a colon is part of a value only where a path goes on behind it (C:\\masks)."""
_PLAIN = re.compile(r"[^\s:\"]+[^\s:\",;]|[^\s:\",;]")
_NEXT = re.compile(r"\n(?! )")

Bad = Callable[[str], BadInput]
"""What is wrong -> the error that says of which text."""


def pairs(text: str, at: int, keys: Collection[str] | None, what: str, bad: Bad) -> tuple[dict[str, str], int]:
    """The pairs in a text from a position on, and where they end. keys: those that there are, None for any; what: a
    text with such pairs is called. Raises what `bad` makes."""
    found: dict[str, str] = {}
    while part := _PAIR.match(text, at):
        key, value = part.groups()
        if keys is not None and key not in keys:
            raise bad(f"{key!r} is no key of {what}: they are {', '.join(keys)}")
        if key in found:
            raise bad(f"{key} is given twice: leave one out")
        found[key] = unquoted(key, value, bad)
        at = part.end()
    return found, at


def unquoted(key: str, value: str, bad: Bad) -> str:
    """A value as it is meant. Raises what `bad` makes."""
    if not value.startswith('"'):
        return value.rstrip(",;")
    try:
        return str(json.loads(value, strict=False))
    except ValueError:
        raise bad(f"the value of {key} is no JSON string") from None


def quoted(text: str) -> str:
    """A value as `pairs` reads it."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def joined(texts: Sequence[str]) -> str:
    """Several texts as one."""
    return "\n".join(text.strip().replace("\n", "\n ") for text in texts)


def split(text: str) -> tuple[str, ...]:
    """The inverse of `joined`; empty lines are nothing."""
    return tuple(line.replace("\n ", "\n").strip() for line in _NEXT.split(text) if line.strip())


def number(text: str) -> float:
    """NaN for what is no number, which is in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def digits(value: float) -> str:
    """As few as say the number."""
    return repr(float(value)).removesuffix(".0")


def short(text: str) -> str:
    """A text as messages show it."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
