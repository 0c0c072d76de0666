"""The shapes of a network's tensors on disk, from which its widths, depths and blocks can be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atelier.errors import BadFile
from atelier.families.config import Config
from atelier.weights.archive import Stored
from atelier.weights.names.name import Layout


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes of one part; `source` is the file to name in messages, `prefix` what stands before its names there."""

    source: object
    layout: Layout
    found: Mapping[str, tuple[int, ...]]
    prefix: str = ""

    @classmethod
    def of(cls, stored: Stored) -> Shapes:
        return cls(stored.archive.path, stored.layout, stored.shapes(), stored.prefix)

    def shape(self, name: str, *dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor that has to be there, with one of so many `dimensions`. Raises BadFile."""
        shape = self.found.get(name)
        if shape is None:
            raise BadFile(
                self.source, f"lacks {self.prefix}{name}, from which the network's size is read: get it again"
            )
        if len(shape) not in dimensions or 0 in shape:
            raise BadFile(self.source, f"has {self.prefix}{name} of the impossible shape {list(shape)}")
        return shape

    def count(self, pattern: str) -> int:
        """How many of pattern 0, 1, 2, … some name begins with."""
        number = 0
        while any(name.startswith(pattern.format(number)) for name in self.found):
            number += 1
        return number

    def ending(self, ending: str) -> str:
        """What stands before `ending` in the only name that has it. Raises BadFile."""
        for name in self.found:
            if name.endswith(ending):
                return name.removesuffix(ending)
        raise BadFile(self.source, f"lacks {self.prefix}…{ending}, from which the network's size is read: get it again")

    def divides(self, parts: int, width: int, what: str) -> None:
        if width % parts:
            raise BadFile(
                self.source,
                f"has {width} channels, which {parts} {what} do not divide: the settings beside it are another model's",
            )

    def agrees(self, config: Config, key: str, name: str, axis: int) -> None:
        """Refuses a setting that contradicts a tensor's shape. Where that is missing, reading the spec says so better.

        Raises BadFile.
        """
        shape = self.found.get(name, ())
        if axis < len(shape):
            config.agrees(key, shape[axis])

    def agrees_widths(self, config: Config, pattern: str) -> None:
        """Refuses `block_out_channels` that contradict the kernels `pattern` 0, 1, 2, … Raises BadFile."""
        widths: list[int] = []
        while shape := self.found.get(pattern.format(len(widths))):
            widths.append(shape[0])
        config.agrees("block_out_channels", widths)
