"""Fields of JSON objects, and what they say in A1111's words."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import cast

from atelier.request.infotext.record import Infotext, Pairs
from atelier.request.infotext.sampler import OTHER_NAMES

Fields = Mapping[str, object]
LONGEST = 2_000_000
"""Characters of JSON that is read; large graphs have some hundred thousand."""


def as_fields(value: object) -> dict[str, object]:
    """A JSON object; one written as text (and closed as in C) is read, up to `LONGEST`; {} for anything else."""
    if isinstance(value, str):
        if len(value) > LONGEST:
            return {}
        try:
            value = cast("object", json.loads(value.rstrip("\0"), strict=False))
        except (ValueError, RecursionError):
            return {}
    return {str(k): v for k, v in cast("dict[object, object]", value).items()} if isinstance(value, dict) else {}


def sampler_of(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return OTHER_NAMES.get(value) or OTHER_NAMES.get(value.removesuffix("_k")) or value


def pairs_of(found: Fields) -> Pairs:
    """Fields as pairs of text; those without a value are left out."""
    return tuple((key, text) for key, value in found.items() if (text := text_of(value)))


def text_of(value: object) -> str | None:
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def size_of(found: Fields) -> str | None:
    """Width and height as WIDTHxHEIGHT, or the resolution if it says both sides; None if a side is not known."""
    sides = [side for name in ("width", "height") if (side := _side(found.get(name)))]
    if len(sides) != 2:
        sides = re.findall(r"\d{1,9}", str(found.get("resolution", ""))[:100])
    return "x".join(sides) if len(sides) == 2 else None


def _side(value: object) -> str | None:
    text = str(value)
    is_number = isinstance(value, int | str) and text.isascii() and text.isdecimal()
    return text if is_number and len(text) < 10 else None


def hash_of(value: object) -> str | None:
    """The first ten digits of a SHA-256; other kinds of hash are none that a model could be found by."""
    text = str(value).removeprefix("sha256:") if isinstance(value, str) else ""
    return text[:10] if re.fullmatch(r"[0-9a-fA-F]{64}", text) else None


def record_of(
    dialect: str,
    found: Fields,
    known: Fields,
    used: AbstractSet[str],
    *,
    prompts: tuple[str, str] = ("prompt", "negative_prompt"),
    last: Fields | None = None,
) -> Infotext:
    """The record of a JSON object.

    known: what it says in A1111's words; used: the fields that this is made of; the others keep their names, and `last`
    stands behind them. prompts: the names of the prompt and the negative prompt.
    """
    extras = {k: v for k, v in found.items() if k not in used and k not in prompts}
    prompt, negative = (str(found.get(name) or "") for name in prompts)
    pairs = (*pairs_of(known), *pairs_of(extras), *pairs_of(last or {}))
    return Infotext(prompt, negative, pairs, dialect, dict(found))
