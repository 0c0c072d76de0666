"""Versions of A1111 in infotexts: v1.10.1, v1.7.0-225-gabc (225 commits later), v1.8.0-RC, f2.0.1v1.10.1-… (Forge)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_A1111 = re.compile(r"v?(\d{1,4}(?:\.\d{1,4}){1,2})(-RC)?(?:-(\d{1,6}))?(?:-.*)?", re.IGNORECASE)
_FORGE = re.compile(r"f[\d.]++v(\d{1,4}(?:\.\d{1,4}){1,2})(-RC\d*+)?.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A release, and how many commits came after it (-1 for a candidate, which comes before)."""

    release: tuple[int, ...]
    commits: int = 0
    is_a1111: bool = field(default=True, compare=False)


def version_of(text: str | None) -> Version | None:
    """The version of A1111, or of what a fork of it is based on; None for other programs."""
    if text is None:
        return None
    found = _FORGE.fullmatch(text.strip())
    if found:
        return Version(_release(found[1]), -1 if found[2] else 0, is_a1111=False)
    found = _A1111.fullmatch(text.strip())
    if not found:
        return None
    return Version(_release(found[1]), -1 if found[2] else int(found[3] or 0))


def _release(text: str) -> tuple[int, ...]:
    numbers = [int(n) for n in text.split(".")]
    return (*numbers, 0) if len(numbers) == 2 else tuple(numbers)
