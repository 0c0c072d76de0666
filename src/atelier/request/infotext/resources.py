"""The models that an infotext names: with Civitai's numbers, or with hashes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from atelier.request.infotext.fields import as_fields
from atelier.request.infotext.networks import TAG
from atelier.request.infotext.record import Infotext

CIVITAI = "Civitai resources"
LORAS = frozenset({"lora", "lycoris", "locon", "dora"})
_AIR = re.compile(r"urn:air:[^:]+:([^:]+):civitai:(\d+)@(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Resource:
    """One model. kind: checkpoint, lora, embedding, …; version: Civitai's number of it, None if it is not known."""

    kind: str
    name: str
    version: int | None = None
    hash: str | None = None
    weight: float | None = None


def resources(found: Infotext) -> tuple[Resource, ...]:
    """The models named in an infotext: those that Civitai numbers, then those with hashes alone.

    Civitai calls a LoRA by its title; where there are as many tags in the prompt as LoRAs, it is called as in its tag.
    """
    numbered = [r for item in _items(found.get(CIVITAI)) if (r := _numbered(item))]
    tags = list(dict.fromkeys(TAG.findall(found.prompt)))
    loras = [i for i, r in enumerate(numbered) if r.kind == "lora"]
    if len(tags) == len(loras):
        for i, tag in zip(loras, tags, strict=True):
            r = numbered[i]
            numbered[i] = Resource(r.kind, tag, r.version, r.hash, r.weight)
    return (*numbered, *_hashed(found))


def split_hashes(text: str) -> tuple[tuple[str, str], ...]:
    """`a: 12ab, b: 34cd` as pairs of name and hash."""
    parts = (part.rpartition(":") for part in text.split(","))
    return tuple((name.strip(), value.strip()) for name, _, value in parts if name.strip() and value.strip())


def _hashed(found: Infotext) -> Iterator[Resource]:
    if model := found.get("Model hash"):
        yield Resource("checkpoint", found.get("Model") or "", hash=model)
    for key, kind in (("Lora hashes", "lora"), ("TI hashes", "embedding")):
        for name, value in split_hashes(found.get(key) or ""):
            yield Resource(kind, name, hash=value)


def _items(text: str | None) -> list[dict[str, object]]:
    try:
        found = cast("object", json.loads(text or "[]"))
    except (ValueError, RecursionError):
        return []
    return [as_fields(item) for item in cast("list[object]", found)] if isinstance(found, list) else []


def _numbered(item: dict[str, object]) -> Resource | None:
    air = _AIR.fullmatch(str(item.get("air", "")))
    version = int(air[3]) if air else item.get("modelVersionId")
    kind = (air[1] if air else str(item.get("type", ""))).casefold()
    if not isinstance(version, int) or not kind:
        return None
    return Resource(
        "lora" if kind in LORAS else kind,
        str(item.get("modelName", "")),
        version,
        weight=_finite(item.get("weight")),
    )


def _finite(value: object) -> float | None:
    """A number of JSON, where integers have any number of digits; None for anything else."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
