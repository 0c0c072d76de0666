"""Which images stand where on a page: what A1111 calls a grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt


@dataclass(frozen=True, slots=True)
class Sheets:
    """above, beside, titles: the labels of columns, of rows, and of each page. only: the images themselves are not
    sent.
    """

    above: tuple[str, ...]
    beside: tuple[str, ...]
    titles: tuple[str, ...] = ("",)
    only: bool = False

    @property
    def images(self) -> int:
        """Of one page."""
        return len(self.above) * len(self.beside)


def plain(count: int) -> Sheets:
    """The page for so many images without words, about as many rows as columns."""
    rows = max(1, round(sqrt(count)))
    return Sheets(("",) * ceil(count / rows), ("",) * rows)
