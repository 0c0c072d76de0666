"""Numbers drawn from a seed: the same on every machine and in every version of Python."""

from __future__ import annotations

from math import inf, log

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Draws:
    """An endless sequence drawn from `seed`: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number
    Generators, 2014)."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def fraction(self) -> float:
        """The next number, in [0, 1)."""
        self._state = (self._state + _GOLDEN) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((mixed ^ (mixed >> 31)) >> 11) * 2.0**-53

    def between(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.fraction() * (high - low + 1))

    def index(self, weights: list[float]) -> int:
        """An index, each as likely as its weight says; all the same if no weight is above 0."""
        total = sum(weights)
        if not 0 < total < inf:
            return self.between(0, len(weights) - 1)
        point = self.fraction() * total
        for i, weight in enumerate(weights):
            point -= weight
            if point < 0:
                return i
        return max(i for i, weight in enumerate(weights) if weight > 0)

    def sample(self, weights: list[float], count: int) -> list[int]:
        """`count` different indices, each drawn by weight from those that are left (Efraimidis, Spirakis: Weighted
        random sampling with a reservoir, 2006)."""
        keys = [(log(1 - self.fraction()) / weight if weight > 0 else -inf, -i) for i, weight in enumerate(weights)]
        return [-i for _, i in sorted(keys, reverse=True)[:count]]
