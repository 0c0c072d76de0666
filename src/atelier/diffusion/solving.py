"""The arithmetic of the solvers: exponential integrators and Adams weights, in double precision on Python floats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from torch import Tensor

from atelier.diffusion.types import Prediction

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_SERIES: Final = 0.05


def log_ratio(sigma: float, target: float) -> float:
    """h: the step from `sigma` down to `target` in lambda = -ln sigma; infinite for target 0."""
    return math.log(sigma / target) if target > 0 else math.inf


def phi(k: int, z: float) -> float:
    """phi_0 = e^z, phi_k = (phi_{k-1} - 1/(k-1)!) / z (Hochbruck and Ostermann 2010, equation 2.11)."""
    if k == 0:
        return math.exp(z)
    if abs(z) < _SERIES:
        return sum(z**j / math.factorial(j + k) for j in range(12))
    if k == 1:
        return math.expm1(z) / z
    return (phi(k - 1, z) - 1 / math.factorial(k - 1)) / z


def adams(
    nodes: Sequence[float], start: float, end: float, density: Callable[[float], float] = lambda _: 1.0
) -> list[float]:
    """For each node j, the integral from start to end of density(v) times the Lagrange polynomial that is 1 at node j.

    By 24-point Gauss-Legendre: exact for polynomials, and to rounding for the smooth densities of the solvers.
    """
    centre, half = (start + end) / 2, (end - start) / 2
    places = [centre + half * float(p) for p in _POINTS]
    weights = [half * float(w) * density(v) for w, v in zip(_WEIGHTS, places, strict=True)]
    return [sum(w * _lagrange(nodes, j, v) for w, v in zip(weights, places, strict=True)) for j in range(len(nodes))]


def _lagrange(nodes: Sequence[float], j: int, v: float) -> float:
    return math.prod((v - n) / (nodes[j] - n) for i, n in enumerate(nodes) if i != j)


def combine(weights: Sequence[float], tensors: Iterable[Tensor]) -> Tensor:
    """The weighted sum of equally many tensors, at least one."""
    first, *others = (tensor * weight for weight, tensor in zip(weights, tensors, strict=True))
    for other in others:
        first = first + other
    return first


def unguided(prediction: Prediction) -> Tensor:
    """The clean latent without guidance; that of the prediction where there was no guidance."""
    return prediction.clean if prediction.unguided is None else prediction.unguided
