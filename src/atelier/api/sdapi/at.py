"""Where a unit of ControlNet stands, for messages about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from atelier.api.errors import Refused
from atelier.api.sdapi.fields import refused

FIELD = "alwayson_scripts"


@dataclass(frozen=True, slots=True)
class At:
    """Where a unit stands; refusals and warnings name it. place: of several images of one unit, which one it is."""

    number: int
    place: int = 0

    def bad(self, name: str, why: str) -> Refused:
        return refused(self.told(name, why), FIELD)

    def told(self, name: str, why: str) -> str:
        return f"ControlNet unit {self.number}: {name}: {why}"

    def image(self, name: str) -> str:
        """What stands for an image of the unit until it is uploaded."""
        return f"unit{self.number}{f'-{self.place}' if self.place else ''}.{name}"


class Beside(NamedTuple):
    """What a request has beside its units. images: the "image" and the "mask" to start from, as far as it has them;
    only_masked: whether only the part is generated that the mask shows; twice: whether there is a second pass."""

    images: Mapping[str, str]
    only_masked: bool = False
    twice: bool = False


def image_label(name: str) -> str:
    """What messages call an image by what stands for it."""
    unit, _, own = name.partition(".")
    return f"ControlNet unit {unit.removeprefix('unit')}: {own}"
