"""Which images a step sees, and what worker processes make of them. Without torch, so that workers start fast."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atelier.train.data.dataset import Dataset
from atelier.train.randomness import permutation
from atelier.weights.tokenizer import ClipTokenizer


@dataclass(frozen=True, slots=True)
class Order:
    """Which of the data a step sees, `batch` of them. Endless data (length None) comes as it is numbered.

    Finite data is shuffled anew every epoch, with the first epoch as it is numbered if `first_in_turn`. Process `rank`
    of `world` sees its share of every batch, which their number divides.
    """

    length: int | None
    batch: int
    seed: int
    first_in_turn: bool = False
    rank: int = 0
    world: int = 1

    def indices(self, step: int) -> list[int]:
        own = self.batch // self.world
        first = step * self.batch + self.rank * own
        return [self._place(number) for number in range(first, first + own)]

    def _place(self, number: int) -> int:
        if self.length is None:
            return number
        epoch, place = divmod(number, self.length)
        if epoch == 0 and self.first_in_turn:
            return place
        return int(_shuffled(self.length, self.seed, epoch)[place])


@functools.lru_cache(maxsize=2)
def _shuffled(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return permutation(length, seed, "order", epoch).numpy()


def stack(data: Dataset, indices: Sequence[int]) -> NDArray[np.uint8]:
    """Images (B, H, W, 3)."""
    return np.stack([data.image(i) for i in indices])


def token_rows(data: Dataset, indices: Sequence[int], vocabulary: ClipTokenizer) -> NDArray[np.int64]:
    """Ids of the captions (B, T)."""
    return np.array([vocabulary.ids(data.caption(i)) for i in indices], np.int64)


@dataclass(frozen=True, slots=True)
class ImageBatches:
    """Makes a step's images: uint8 (B, H, W, 3)."""

    data: Dataset
    order: Order

    def __call__(self, step: int) -> NDArray[np.uint8]:
        return stack(self.data, self.order.indices(step))


@dataclass(frozen=True, slots=True)
class Captioned:
    """Images (B, H, W, 3) and the ids of their captions (B, T)."""

    pixels: NDArray[np.uint8]
    tokens: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CaptionedBatches:
    """Makes a step's images with their captions."""

    data: Dataset
    order: Order
    vocabulary: ClipTokenizer

    def __call__(self, step: int) -> Captioned:
        return captioned(self.data, self.order.indices(step), self.vocabulary)


def captioned(data: Dataset, indices: Sequence[int], vocabulary: ClipTokenizer) -> Captioned:
    """The images and captions of these numbers."""
    return Captioned(stack(data, indices), token_rows(data, indices, vocabulary))
