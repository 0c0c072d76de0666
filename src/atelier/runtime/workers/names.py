"""Uploads, as fields name them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from atelier.request.events import Json

UPLOAD = re.compile(r"upload:[0-9a-f]{64}")
AS_LARGE_AS = " as large as "
"""Between the names of a mask and of the image to whose size it is brought."""
_BROUGHT = re.compile(UPLOAD.pattern + AS_LARGE_AS + UPLOAD.pattern)
SPOKEN = frozenset({"regions", "controls", "references", "faces"})
"""The fields whose texts name images among other things."""


SHOWN = 15
"""Characters of an upload's name in messages."""


def shown(name: str) -> str:
    """An upload's name as messages show it."""
    return name if len(name) <= SHOWN else name[:SHOWN] + "…"


def uploads_in(fields: Mapping[str, Json]) -> tuple[str, ...]:
    """The uploads that fields name, each once: whole values, both of a mask that is brought to the size of an image,
    and those inside the texts of regions and controls."""
    return tuple(
        dict.fromkeys(name for key, value in fields.items() for name in _named(value, whole=key not in SPOKEN))
    )


def as_large_as(mask: str, image: str) -> str:
    """The name of the mask of an upload, or of such a name, brought to the size of an image by its name."""
    return mask.partition(AS_LARGE_AS)[0] + AS_LARGE_AS + image


def _named(value: Json, *, whole: bool) -> Iterator[str]:
    if isinstance(value, str):
        if not whole or UPLOAD.fullmatch(value) or _BROUGHT.fullmatch(value):
            yield from UPLOAD.findall(value)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item, whole=whole)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _named(item, whole=whole)
