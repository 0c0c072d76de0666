"""Where sampling starts from, as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from atelier.pipeline.sample import Sample
from atelier.pipeline.values import Values

Raise = Callable[[Tensor, float], Tensor]
"""(unit noise, sigma) -> what a sampler begins with at that sigma where there is no image yet."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a start can begin with.

    noise: unit noise (B, C, h, w), one row for each of `samples`; sigmas: the whole schedule, descending; raised: the
    noise at a level, as the sampler wants it; values: what earlier stages left.
    """

    noise: Tensor
    sigmas: Tensor
    raised: Raise
    samples: Sequence[Sample]
    values: Values


class Start(Protocol):
    """What a sampler begins with."""

    def begin(self, given: Beginning, /) -> tuple[Tensor, Tensor]:
        """(x at the first sigma that is used, the sigmas to run through), x of the shape of the noise."""
        ...


@dataclass(frozen=True, slots=True)
class FromNoise:
    """There is no image yet: noise at the schedule's first sigma, and all of the schedule."""

    def begin(self, given: Beginning, /) -> tuple[Tensor, Tensor]:
        return given.raised(given.noise, float(given.sigmas[0])), given.sigmas
