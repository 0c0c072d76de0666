"""SA-Solver: stochastic Adams methods, a predictor and a corrector."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from atelier.diffusion.sampling import ANCESTRAL, SAMPLER_DEFAULTS, Options, SamplerSpec, intervals, level, levels_of
from atelier.diffusion.solving import adams, combine, log_ratio
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step


@dataclass(frozen=True, slots=True)
class Adams:
    """The orders of predictor and corrector, and what is done with them.

    evaluate: ask again at the corrected x (PECE). simple: the shortened weights of order 2 that the authors use for few
    steps. tau: the noise of the step (sigma, target); None = eta in the middle 60 % of the timesteps.
    """

    predictor: int = 3
    corrector: int = 4
    evaluate: bool = False
    simple: bool = False
    tau: Callable[[float, float], float] | None = None


def sa_solver(options: Options = SAMPLER_DEFAULTS, *, adams_: Adams = Adams()) -> Sampler:
    """Xue et al. 2023 (arXiv:2309.05019), algorithm 1 in data prediction: equations 14 (predictor) and 17 (corrector).

    The corrector reuses the noise of the step it corrects. Towards a last level of 0 the orders fall.
    """
    tau_of = adams_.tau or _middle(options)

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        levels, total = levels_of(sigmas), len(sigmas) - 1
        cleans = deque[Tensor](maxlen=max(adams_.predictor, adams_.corrector))
        origin, tau, added = x, 0.0, torch.zeros((), dtype=x.dtype, device=x.device)
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            cleans.appendleft(clean)
            left = total - at.index if levels[-1] == 0 else total
            corrects = at.index > 0 and (at.target > 0 or adams_.evaluate)
            if corrects:
                used = min(adams_.corrector, len(cleans), left)
                nodes = levels[at.index :: -1][:used]
                x = _advance(origin, levels[at.index - 1], at.sigma, nodes, cleans, tau, simple=adams_.simple) + added
                if adams_.evaluate:
                    clean = denoise(x, level(at.sigma, x)).clean
                    cleans[0] = clean
            origin = x
            if at.target == 0:
                x = clean
            else:
                tau = tau_of(at.sigma, at.target)
                used = min(adams_.predictor, len(cleans), max(left - 1, 1))
                nodes = levels[at.index :: -1][:used]
                added = _noise(at.sigma, at.target, tau, noise, x) * options.s_noise
                x = _advance(origin, at.sigma, at.target, nodes, cleans, tau, simple=adams_.simple) + added
            yield Step(at.index, at.total, x, clean)

    return sample


def _advance(
    x: Tensor,
    sigma: float,
    target: float,
    nodes: Sequence[float],
    cleans: Sequence[Tensor],
    tau: float,
    *,
    simple: bool,
) -> Tensor:
    rate = 1 + tau**2
    h = log_ratio(sigma, target)
    weights = adams([log_ratio(sigma, s) for s in nodes], 0.0, h, lambda v: rate * math.exp(rate * (v - h)))
    if simple and len(nodes) == 2:
        weights = _simple(h, rate, log_ratio(*nodes), corrects=nodes[0] == target)
    return math.exp(-rate * h) * x + combine(weights, list(cleans)[: len(nodes)])


def _simple(h: float, rate: float, gap: float, *, corrects: bool) -> list[float]:
    """Appendix D: the weights of order 2 with the difference of the predictions weighed by the step alone.

    gap: lambda of the newer node less that of the older, negative since `log_ratio` counts from the newer.
    """
    whole = -math.expm1(-rate * h)
    if corrects:
        return [rate * h / 2, whole - rate * h / 2]
    older = rate * h**2 / 2 / gap
    return [whole - older, older]


def _noise(sigma: float, target: float, tau: float, noise: NoiseSource, x: Tensor) -> Tensor:
    if not tau:
        return torch.zeros((), dtype=x.dtype, device=x.device)
    up = target * math.sqrt(-math.expm1(-2 * tau**2 * log_ratio(sigma, target)))
    return noise(level(sigma, x), level(target, x)) * up


def _middle(options: Options) -> Callable[[float, float], float]:
    """eta where the target lies within the middle 60 % of the timesteps, as ComfyUI has it; 0 elsewhere
    (docs/compatibility/samplers.md)."""
    eta, last = options.eta, len(options.table.sigmas) - 1
    low, high = (float(options.table.sigma(torch.tensor(last * part))) for part in (0.2, 0.8))
    return lambda _sigma, target: eta if low <= target <= high else 0.0


_PEC = SamplerSpec(
    "SA Solver", sa_solver, aliases=("sa_solver", "SASolverScheduler"), order=3, noise="fresh", uses=ANCESTRAL
)

SPECS = (
    _PEC,
    replace(
        _PEC,
        name="SA Solver PECE",
        make=partial(sa_solver, adams_=Adams(evaluate=True)),
        aliases=("sa_solver_pece",),
        calls=2,
    ),
)
