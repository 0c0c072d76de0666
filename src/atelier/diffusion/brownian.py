"""Brownian paths for the SDE samplers: noise that agrees with itself across step counts, orders of query and batches.

A path W over sigma is a tree of halved intervals (Li et al. 2020, arXiv:2001.01328, section 4): the value in the
middle of an interval is a pure function of the ends and of a draw that is named by the interval. So any point can be
had in any order, and 20 and 40 steps follow the same path. Over (sigma, next sigma) the source returns
(W(next) - W(sigma)) / sqrt(|next - sigma|), which is unit noise.

`portable` streams take intervals that are the octaves of sigma, halved ten times: no range needs to be known, and a
point costs eleven draws. `cpu` and `nv` follow torchsde's BrownianTree over the range of the schedule, draw by draw,
because A1111 and ComfyUI generate with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atelier.diffusion.philox import normals
from atelier.diffusion.rng import SOURCES, source_named
from atelier.diffusion.types import NoiseSource

Values = NDArray[np.float64]
Draw = Callable[[int, int], Values]
"""(depth, index) of an interval in its tree -> unit normals of one image."""

_TREE = 1
_DEPTH = 10
_OCTAVES = 64
_POOL = 24
_DIGITS = 6


class Path(Protocol):
    """One image's path, and the grid its times are rounded to."""

    def snap(self, sigma: float, /) -> float: ...

    def value(self, sigma: float, /) -> Values: ...


def brownian(seeds: Sequence[int], like: Tensor, low: float, high: float, source: str = "portable") -> NoiseSource:
    """A source of unit noise for latents like `like` (B, C, h, w): one path per image, keyed by its seed.

    `low` and `high` are the smallest positive and the largest sigma of the whole schedule. Queries with equal (or all
    but equal) ends have no increment to show and get zeros from `cpu` and `nv`, fresh noise from `portable`.
    """
    paths = [_path(seed, tuple(like.shape[1:]), low, high, source_named(source)) for seed in seeds]

    def noise(sigma: Tensor, following: Tensor) -> Tensor:
        unit = [torch.from_numpy(_unit(path, float(sigma), float(following))) for path in paths]
        return torch.stack(unit).to(like)

    return noise


def _unit(path: Path, start: float, end: float) -> NDArray[np.float32]:
    a, b = path.snap(start), path.snap(end)
    if a == b and isinstance(path, OctavePath):
        return path.within(start, end).astype(np.float32)
    span = abs(b - a) or 1.0
    return ((path.value(b) - path.value(a)) / math.sqrt(span)).astype(np.float32)


def _path(seed: int, shape: tuple[int, ...], low: float, high: float, source: str) -> Path:
    return OctavePath(seed, shape) if source == "portable" else TorchsdePath(seed, shape, low, high, source)


def descend(
    time: float, ends: tuple[float, float], total: Values, draw: Draw, middle: Callable[[float], float]
) -> Values:
    """W(time) - W(start) in a tree of halved intervals whose increment over `ends` is `total`.

    `middle` rounds the middle of an interval. The bridge: mean in proportion, variance left * right / whole.
    """
    (start, end), reached, depth, index = ends, np.zeros_like(total), 0, 0
    while start < time < end:
        half = middle(0.5 * (start + end))
        left, right = half - start, end - half
        first = total * (left / (end - start)) + draw(depth, index) * math.sqrt(left * right / (end - start))
        upper = time >= half
        if upper:
            reached, start, total = reached + first, half, total - first
        else:
            end, total = half, first
        depth, index = depth + 1, 2 * index + upper
    return reached + total if time >= end else reached


class OctavePath:
    """A path anchored at W(1) = 0 whose roots are the octaves [2^k, 2^(k+1)); times are rounded to 11 binary digits."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        self._seed, self._shape = seed, shape
        self.value = lru_cache(maxsize=4)(self._value)
        self._octave = lru_cache(maxsize=None)(self._total)

    def snap(self, sigma: float, /) -> float:
        cell = 2.0 ** (_octave_of(sigma) - _DEPTH)
        return round(sigma / cell) * cell

    def within(self, start: float, end: float) -> Values:
        """Noise for two times in one cell of the grid, named by the cell's number: never the path's own draws."""
        octave = _octave_of(start)
        cell = round(self.snap(start) / 2.0 ** (octave - _DEPTH))
        return self._draw(octave, _DEPTH + 1 + (end < start), cell)

    def _value(self, sigma: float) -> Values:
        octave = _octave_of(sigma)
        start = 2.0**octave
        inside = descend(
            sigma, (start, 2 * start), self._octave(octave), lambda depth, i: self._draw(octave, depth, i), float
        )
        return sum((self._octave(k) for k in range(octave)), inside) - sum(
            (self._octave(k) for k in range(octave, 0)), np.zeros_like(inside)
        )

    def _total(self, octave: int) -> Values:
        return self._draw(octave, _OCTAVES - 1, 0) * math.sqrt(2.0**octave)

    def _draw(self, octave: int, depth: int, index: int) -> Values:
        name = (index, (octave + _OCTAVES) * _OCTAVES + depth, _TREE)
        return normals(self._seed, name, math.prod(self._shape)).reshape(self._shape).astype(np.float64)


class TorchsdePath:
    """torchsde's BrownianTree over [low, high] with this seed as its entropy, its draws made by `source`.

    Times are rounded to six decimal digits; the seed of each interval's draw is numpy's SeedSequence of its place.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], low: float, high: float, source: str) -> None:
        self._seed, self._shape, self._source = seed, shape, source
        self._ends = (self.snap(low), self.snap(high))
        self._draw = lru_cache(maxsize=48)(self._drawn)
        self._total = self._normal(self._state(None)) * math.sqrt(high - low)
        self.value = lru_cache(maxsize=4)(self._value)

    def snap(self, sigma: float, /) -> float:
        return round(sigma, _DIGITS)

    def _value(self, sigma: float) -> Values:
        return descend(sigma, self._ends, self._total, self._draw, self.snap)

    def _drawn(self, depth: int, index: int) -> Values:
        return self._normal(self._state((index, depth)))

    def _state(self, place: tuple[int, int] | None) -> int:
        sequence = np.random.SeedSequence(self._seed % 2**64, spawn_key=place or (), pool_size=_POOL)
        return int(sequence.generate_state(1)[0])

    def _normal(self, seed: int) -> Values:
        return SOURCES[self._source](seed).normal(self._shape).double().numpy()


def _octave_of(sigma: float) -> int:
    return math.frexp(max(sigma, 2.0**-40))[1] - 1
