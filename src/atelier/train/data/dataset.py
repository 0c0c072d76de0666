"""Captioned images by number: the interface, and emoji scenes behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from atelier.train.data import scenes
from atelier.train.data.scenes import Split


class Dataset(Protocol):
    """Captioned images, each a pure function of its index."""

    @property
    def size(self) -> int:
        """Width and height of every image, in pixels."""
        ...

    @property
    def length(self) -> int | None:
        """How many there are, None when endless; indices beyond wrap around."""
        ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """Image number `index` (>= 0): uint8 RGB (size, size, 3)."""
        ...

    def caption(self, index: int) -> str:
        """What image number `index` shows, in words."""
        ...


@dataclass(frozen=True, slots=True)
class SceneDataset:
    """The endless emoji scenes of one seed and split; `shares` are those of large things, small things and pairs."""

    seed: int
    split: Split = "train"
    size: int = scenes.CELLS
    shares: tuple[float, float, float] = scenes.SHARES

    @property
    def length(self) -> None:
        return None

    def image(self, index: int) -> NDArray[np.uint8]:
        return scenes.render(self._scene(index), self.size)

    def caption(self, index: int) -> str:
        return self._scene(index).caption

    def _scene(self, index: int) -> scenes.Scene:
        return scenes.scene(self.seed, index, self.split, self.shares)
