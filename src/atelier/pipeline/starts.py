"""Where sampling starts from, as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from atelier.pipeline.values import Values

Raise = Callable[[Tensor, float], Tensor]
"""(unit noise, sigma) -> what a sampler begins with at that sigma where there is no image yet."""


class Start(Protocol):
    """What a sampler begins with."""

    def begin(self, noise: Tensor, sigmas: Tensor, raised: Raise, values: Values, /) -> tuple[Tensor, Tensor]:
        """(x at the first sigma that is used, the sigmas to run through), x of the shape of `noise` (B, C, h, w).

        sigmas: the whole schedule, descending.
        """
        ...


@dataclass(frozen=True, slots=True)
class FromNoise:
    """There is no image yet: noise at the schedule's first sigma, and all of the schedule."""

    def begin(self, noise: Tensor, sigmas: Tensor, raised: Raise, values: Values, /) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - other starts read them
        return raised(noise, float(sigmas[0])), sigmas
