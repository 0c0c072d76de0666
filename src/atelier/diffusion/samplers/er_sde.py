"""ER-SDE: solvers of the extended reverse-time SDE."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch import Tensor

from atelier.diffusion.sampling import (
    ANCESTRAL,
    Interval,
    Options,
    SamplerSpec,
    intervals,
    level,
    levels_of,
)
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step

POINTS = 200

OWN = Options(order=3)


def er_sde(options: Options = OWN) -> Sampler:
    """Cui et al. 2023 (arXiv:2309.06169), algorithm 3 (VE ER-SDE-Solver-3), phi(s) = s (exp(s^0.3) + 10)^eta.

    eta = 1 is the paper's fifth noise scale, eta = 0 the probability flow ODE. The integrals are the authors' sums over
    200 points. Stages 1 to 3 (`order`, 3 by default) add the first two derivatives of the clean latent in sigma.
    """
    eta, stages = options.eta, min(options.order, 3)

    def scale(s: float) -> float:
        return s * (math.exp(s**0.3) + 10) ** eta

    def integral(at: Interval, moment: int) -> float:
        width = (at.sigma - at.target) / POINTS
        points = (at.target + width * i for i in range(POINTS))
        return width * sum((p - at.sigma) ** moment / scale(p) for p in points)

    def advance(at: Interval, x: Tensor, slopes: Sequence[Tensor]) -> Tensor:
        span, reach = at.target - at.sigma, scale(at.target)
        for k, slope in enumerate(slopes):
            x = x + (span ** (k + 1) / (k + 1) + integral(at, k) * reach) * slope
        return x

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        levels, history = levels_of(sigmas), list[Tensor]()
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            ratio = scale(at.target) / scale(at.sigma)
            derivatives = _derivatives(clean, history, levels[: at.index + 1], min(stages, at.index + 1))
            x = ratio * x + (1 - ratio) * clean
            if at.target > 0:
                x = advance(at, x, derivatives[1:])
                if eta:
                    up = math.sqrt(max(at.target**2 - (at.sigma * ratio) ** 2, 0.0))
                    x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            history = derivatives[:2]
            yield Step(at.index, at.total, x, clean)

    return sample


def _derivatives(clean: Tensor, history: Sequence[Tensor], levels: Sequence[float], count: int) -> list[Tensor]:
    """The clean latent and its derivatives in sigma, `count` in all, from those of the last step in `history`."""
    found = [clean]
    for k in range(1, count):
        gap = (levels[-1] - levels[-1 - k]) / k
        found.append((found[-1] - history[k - 1]) / gap)
    return found


SPECS = (
    SamplerSpec("ER SDE", er_sde, aliases=("er_sde",), order=2, noise="fresh", uses=ANCESTRAL | {"order"}, own=OWN),
)
