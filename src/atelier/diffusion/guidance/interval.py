"""Guidance in an interval of noise levels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from atelier.diffusion.guidance.spec import GuidanceSpec


@dataclass(frozen=True, slots=True)
class Interval:
    """Kynkäänniemi et al. 2024 (arXiv:2404.07724), equation 6: classifier-free guidance acts where low < sigma <= high.

    The edges are taken with the tolerance of a float32.
    """

    low: float = 0.0
    high: float = math.inf

    def holds(self, sigma: float) -> bool:
        above = not self.low or sigma > self.low * (1 + 1e-6)
        return above and sigma <= self.high * (1 + 1e-6)


EVERYWHERE = Interval()
NO_LIMIT = 10.0**9
"""A sigma above every model's."""

SPECS = (
    GuidanceSpec(
        "CFG interval",
        {"cfg_interval_low": 0.0, "cfg_interval_high": NO_LIMIT},
        {"cfg_interval_low": 0.3, "cfg_interval_high": 5.0},
    ),
)
