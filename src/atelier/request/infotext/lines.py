"""Texts with a parameter line, whoever wrote them: the pairs with a value, and keys that others call otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from atelier.request.infotext.keys import NAMES
from atelier.request.infotext.pairs import Pair
from atelier.request.infotext.record import Infotext, Pairs
from atelier.request.infotext.sampler import is_schedule
from atelier.request.infotext.text import Parts, split_text

_HASH = re.compile(r"[\w. +/\-()\[\]]+:\s*[0-9a-fA-F]{6,64}")


@dataclass(frozen=True, slots=True)
class Lines:
    """What the lines of a text say. parts: as they stand; pairs: those with a value; values: the same by key, of
    several the last."""

    parts: Parts
    pairs: Pairs
    values: Mapping[str, str]

    def record(self, dialect: str) -> Infotext:
        """Them as an infotext."""
        return Infotext(self.parts.prompt, self.parts.negative_prompt, _renamed(self.pairs, self.values), dialect)


def lines_of(text: str) -> Lines:
    parts = split_text(text)
    pairs = tuple(_known(parts.pairs))
    return Lines(parts, pairs, dict(pairs))


def _known(pairs: tuple[Pair, ...]) -> list[tuple[str, str]]:
    """The pairs with a value; a text without a key is one if it is itself a key, or is a list of hashes that has lost
    its key (Civitai's copy button drops it; several such lists are one)."""
    kept: list[tuple[str, str]] = []
    hashes: list[str] = []
    place = 0
    for pair in pairs:
        is_bare = pair.key == pair.value and not pair.was_quoted
        if not pair.key:
            if all(_HASH.fullmatch(part.strip()) for part in pair.value.split(",")):
                if not hashes:
                    place = len(kept)
                hashes.append(pair.value)
        elif pair.value and (not is_bare or pair.key in NAMES):
            kept.append((pair.key.rstrip(), pair.value))
    return [*kept[:place], ("Lora hashes", ", ".join(hashes)), *kept[place:]] if hashes else kept


def _renamed(pairs: Pairs, values: Mapping[str, str]) -> Pairs:
    """Saver nodes of ComfyUI call the schedule Scheduler (SD.Next calls a class so). Draw Things calls the denoising
    strength Strength, and writes it for images from nothing too, as 1."""
    if "Schedule type" not in values and is_schedule(values.get("Scheduler", "")):
        pairs = tuple(("Schedule type" if k == "Scheduler" else k, v) for k, v in pairs)
    if "Guidance Scale" not in values:
        return pairs
    kept = (("Denoising strength" if k == "Strength" else k, v) for k, v in pairs)
    return tuple((k, v) for k, v in kept if k != "Denoising strength" or v not in {"1", "1.0"})
