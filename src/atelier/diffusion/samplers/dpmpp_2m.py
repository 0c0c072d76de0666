"""DPM-Solver++(2M)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.sampling import DEFAULTS, Options, SamplerSpec, intervals, level
from atelier.diffusion.types import Denoiser, NoiseSource, Sampler, Step


def dpmpp_2m(_options: Options = DEFAULTS) -> Sampler:
    """Lu et al. 2022 (arXiv:2211.01095), algorithm 2, with lambda = -ln sigma and h the step in it.

    The clean latent is extrapolated along the last two predictions; the first and the last step are of first order.
    """

    def sample(denoise: Denoiser, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        previous: Tensor | None = None
        last_h = 0.0
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            ratio = at.target / at.sigma
            h = -math.log(ratio) if ratio else math.inf
            ahead = clean
            if previous is not None and at.target > 0:
                ahead = clean + (clean - previous) * (h / (2 * last_h))
            x = ratio * x + (1 - ratio) * ahead
            previous, last_h = clean, h
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec(
        "DPM++ 2M",
        dpmpp_2m,
        aliases=("k_dpmpp_2m", "dpmpp_2m", "DPMSolverMultistepScheduler"),
        order=2,
        schedule="Karras",
    ),
)
