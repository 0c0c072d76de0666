"""Muon, and the arithmetic of its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.train.own_optimizer import OwnOptimizer

SPREAD = 0.2
"""The root mean square of a step of Muon, in learning rates: that of AdamW's, so that one rate serves both."""
POLYNOMIALS = (
    (8.2872, -23.5959, 17.3004),
    (4.1071, -2.9478, 0.5448),
    (3.9487, -2.9089, 0.5518),
    (3.3184, -2.4885, 0.5100),
    (2.3007, -1.6689, 0.4188),
)
"""Odd polynomials a x + b x^3 + c x^5 that, one after another, bring singular values of 0.001 to 1 near 1.

Source: Amsel 2025 (arXiv:2505.16932), "Polar Express".
"""

FAINT = 0.004
"""What is fainter than this in the inputs of a layer is not worth a larger step."""

LONGER = 1.5
"""From this ratio of its sides on, a matrix is cheaper to iterate on its Gram matrix."""


class Muon(OwnOptimizer):
    """Momentum whose matrices are made orthogonal before each step, so that all directions learn at one pace.

    Matrices (out, in) and kernels (out, in, h, w), the latter as (out, in h w). Decay is AdamW's. Sources: Jordan 2024
    (kellerjordan.github.io/posts/muon); Liu 2025 (arXiv:2502.16982) for the step's size.

    A matrix with a basis, (in, in), is moved as if its inputs x came as x @ basis: see `whitening`.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        rate: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        bases: Mapping[Tensor, Tensor] | None = None,
    ) -> None:
        defaults = {"lr": rate, "full_rate": rate, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)
        self._bases = dict(bases or {})

    def _move(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(momentum, group["momentum"])
        rows = direction.movedim(1, -1)
        matrix = rows.reshape(len(rows), -1)
        basis = self._bases.get(parameter)
        step = orthogonal(matrix) if basis is None else orthogonal(matrix @ basis) @ basis.T
        step = step.mul_(SPREAD * max(matrix.shape) ** 0.5).view(rows.shape).movedim(-1, 1)
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"])


def whitening(inputs: Tensor, gain: float) -> Tensor:
    """The basis (n, n) in which inputs (..., n) have a mean square of gain squared in every direction.

    Directions with less than FAINT of the largest one's root mean square count as if they had that much.
    """
    rows = inputs.flatten(0, -2).cpu().double()  # not every device has double precision
    squares, directions = cast("tuple[Tensor, Tensor]", torch.linalg.eigh(rows.T @ rows / len(rows)))
    rms = squares.clamp_min(0).sqrt()
    return (directions * (gain / rms.clamp_min(FAINT * float(rms[-1])))).to(inputs)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values near 1: (m, n) -> (m, n).

    Where one side is longer, the iteration runs on the Gram matrix of the other, which costs a fraction.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    x = F.normalize(matrix.flatten(), dim=0).view(matrix.shape) / 1.01
    unit = torch.eye(len(x), dtype=x.dtype, device=x.device)
    if x.shape[1] < LONGER * len(x):
        for polynomial in POLYNOMIALS:
            x = torch.mm(_factor(unit, torch.mm(x, x.T), polynomial), x)
        return x
    gram = torch.mm(x, x.T)
    total = _factor(unit, gram, POLYNOMIALS[0])
    factor = total
    for polynomial in POLYNOMIALS[1:]:
        gram = torch.mm(factor, torch.mm(gram, factor))
        factor = _factor(unit, gram, polynomial)
        total = torch.mm(factor, total)
    return torch.mm(total, x)


def _factor(unit: Tensor, gram: Tensor, polynomial: tuple[float, float, float]) -> Tensor:
    """What one polynomial multiplies a matrix with that has this Gram matrix."""
    a, b, c = polynomial
    return torch.addmm(unit * a + gram * b, gram, gram, alpha=c)
