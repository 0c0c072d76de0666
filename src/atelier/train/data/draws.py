"""Random numbers of the data as a function of names and numbers, without torch, so that workers start fast."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from atelier.train.randomness import key


def draws(*parts: int | str) -> np.random.Generator:
    """A generator of its own for the named draw."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


@functools.lru_cache(maxsize=256)
def shuffled(count: int, *parts: int | str) -> NDArray[np.int64]:
    """0 to count - 1 in random order; read-only."""
    order = draws(*parts).permutation(count)
    order.flags.writeable = False
    return order
