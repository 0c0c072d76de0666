"""Uploads, as fields name them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from atelier.request.events import Json

UPLOAD = re.compile(r"upload:[0-9a-f]{64}")
REGIONS = "regions"
"""The field whose texts name masks among other things."""


def uploads_in(fields: Mapping[str, Json]) -> tuple[str, ...]:
    """The uploads that fields name, each once: whole values, and those inside the texts of regions."""
    return tuple(dict.fromkeys(name for key, value in fields.items() for name in _named(value, whole=key != REGIONS)))


def _named(value: Json, *, whole: bool) -> Iterator[str]:
    if isinstance(value, str):
        yield from [value] if whole and UPLOAD.fullmatch(value) else [] if whole else UPLOAD.findall(value)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item, whole=whole)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _named(item, whole=whole)
