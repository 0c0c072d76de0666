"""UniPC: a multistep predictor, and a corrector that costs no call."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from atelier.diffusion.sampling import Options, SamplerSpec, Variant, intervals, level, settled
from atelier.diffusion.solving import combine, log_ratio, phi
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step

OWN = Options(order=3)


def unipc(options: Options = OWN) -> Sampler:
    """Zhao et al. 2023 (arXiv:2302.04867), algorithms 1 and 2 in data prediction (appendix E.5), B(h) = h or e^h - 1.

    Order 3 by default, growing at the start and, with lower_order_final, falling at the end. The prediction at the next
    level serves twice: to correct the step that led there, and to predict the one after. It counts in timesteps: see
    `settled`. variant vary_coeff: see `_varying`.
    """
    order, variant = options.order, options.variant

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        cleans, levels = deque[Tensor](maxlen=order + 1), deque[float](maxlen=order + 1)
        origin, used = x, 0
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            cleans.appendleft(clean)
            levels.appendleft(at.sigma)
            if used:
                x = _advance(origin, list(cleans)[1 : used + 1], list(levels)[1 : used + 1], at.sigma, variant, clean)
            left = at.total - at.index
            used = min(order, at.index + 1, left if options.lower_order_final or at.target == 0 else order)
            origin = x
            x = clean if at.target == 0 else _advance(x, list(cleans)[:used], list(levels)[:used], at.target, variant)
            x = settled(x, at)
            yield Step(at.index, at.total, x, clean)

    return sample


def _advance(
    x: Tensor,
    cleans: Sequence[Tensor],
    levels: Sequence[float],
    target: float,
    variant: Variant,
    new: Tensor | None = None,
) -> Tensor:
    """From x at levels[0] to `target` with the predictions at `levels`, the latest first, and one at the target."""
    h = log_ratio(levels[0], target)
    ratios = [log_ratio(levels[0], s) / h for s in levels[1:]]
    changes = [(c - cleans[0]) / r for c, r in zip(cleans[1:], ratios, strict=True)]
    if new is not None:
        ratios, changes = [*ratios, 1.0], [*changes, new - cleans[0]]
    moved = math.exp(-h) * x - math.expm1(-h) * cleans[0]
    if not changes:
        return moved
    if variant == "vary_coeff":
        return moved + h * combine(_varying(ratios, h, corrects=new is not None), changes)
    scale = -h if variant == "bh1" else math.expm1(-h)
    return moved - scale * combine(_weights(ratios, h, scale, simple=len(ratios) == 1), changes)


def _weights(ratios: Sequence[float], h: float, scale: float, *, simple: bool) -> list[float]:
    """Equation 8: the weights a with sum_m a_m ratios_m^(n-1) = n! phi_(n+1)(-h) (-h) / B(h); of one, a half."""
    if simple:
        return [0.5]
    rows = [[r**n for r in ratios] for n in range(len(ratios))]
    right = [math.factorial(n) * phi(n + 1, -h) * -h / scale for n in range(1, len(ratios) + 1)]
    return [float(a) for a in np.linalg.solve(np.array(rows), np.array(right))]


def _varying(ratios: Sequence[float], h: float, *, corrects: bool) -> list[float]:
    """Weights of the changes without B(h) (appendix C): of the predictor, the polynomial through all, integrated.

    The corrector's are those of the authors' program, which leaves parts of the sum out (all of the last derivative but
    the newest change, with the weight of the derivative before; of the others the newest change) and is of first order
    for that. They are kept, because images were generated with them.
    """
    count = len(ratios)
    inverse = np.linalg.inv([[r**k / math.factorial(k + 1) for k in range(count)] for r in ratios])
    moments = np.array([phi(k + 2, -h) for k in range(count)])
    if not corrects:
        return [float(w) for w in moments @ inverse]
    older = moments[:-1] @ inverse[:-1, :-1]
    return [*(float(w) for w in older), float(moments[-1] * inverse[max(count - 2, 0), -1])]


_BH1 = SamplerSpec(
    "UniPC",
    unipc,
    aliases=("uni_pc", "UniPC bh1", "UniPC (bh1)"),
    order=2,
    schedule="Time Uniform",
    uses=frozenset({"order", "variant", "lower_order_final"}),
    start="unit",
    own=OWN,
)

SPECS = (
    _BH1,
    replace(
        _BH1,
        name="UniPC BH2",
        aliases=("uni_pc_bh2", "UniPC (bh2)", "UniPCMultistepScheduler"),
        own=replace(OWN, variant="bh2"),
    ),
)
