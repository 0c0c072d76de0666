"""Images in bodies: base64, or an object with `image` and `mask`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from atelier.api.errors import Problem, Refused


class Taken(NamedTuple):
    """Base64 of an image, and of the mask that came with it; "" where there is none."""

    image: str
    mask: str


def taken(given: object, field: str) -> Taken:
    """What a field with an image holds. Raises Refused (422) for what is neither text nor an object with an image."""
    match given:
        case None:
            return Taken("", "")
        case str():
            return Taken(given.strip(), "")
        case {"image": str(image), "mask": str(mask)}:
            return Taken(image.strip(), mask.strip())
        case {"image": str(image)}:
            return Taken(image.strip(), "")
        case _:
            kind = "an object without an image" if isinstance(given, Mapping) else "no text"
            raise Refused(Problem(422, "HTTPException", f"{field} is {kind}: send an image in base64", field))
