"""The tensors of a file one after the other, with little of it in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from atelier.weights.archive import Archive

if TYPE_CHECKING:
    from torch import Tensor

AHEAD = 256_000_000
"""Bytes on disk of one file that are read at once, or a single tensor of more."""


class Ahead:
    """Reads the tensors of an archive in a given order, some at once, because opening a file costs as much as reading a
    few. Each can be taken once."""

    def __init__(self, archive: Archive, order: Iterable[str]) -> None:
        self._archive, self._waiting = archive, deque(order)
        self._read: dict[str, Tensor] = {}

    def take(self, name: str) -> Tensor:
        """The next tensor, which has to be the one of that name; it is the caller's own. Raises BadFile."""
        if not self._read:
            self._read = self._archive.load(self._next(), mapped=False)
        return self._read.pop(name)

    def _next(self) -> list[str]:
        names: list[str] = []
        room = AHEAD
        while self._waiting and (not names or self._archive.tensors[self._waiting[0]].bytes <= room):
            names.append(self._waiting.popleft())
            room -= self._archive.tensors[names[-1]].bytes
        return names
