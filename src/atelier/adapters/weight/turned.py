"""OFT (Qiu 2023, arXiv:2306.07280) as PEFT keeps it: blocks of input channels are rotated before a layer reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from atelier.adapters.delta import LIMIT, TERMS, WEIGHT, Delta, Shape, Shapes, Values, WeightKind, as_matrix

TRIANGLE = "oft_R"
DEFAULT_TERMS = 5
"""Of the series, where no settings say how many."""


@dataclass(frozen=True, slots=True)
class Turned(Delta):
    """W R^T, block by block of n input channels.

    upper: (blocks, n (n - 1) / 2), what is above the diagonals of the skew matrices that the rotations are made of, one
    for all blocks or one for each; terms: of the series that stands for a rotation, 0 for the rotation itself; limit:
    the largest norm of a matrix, times the root of their number, 0: none.
    """

    upper: Tensor
    terms: int
    limit: float

    def difference(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        skew = _limited(_skew(self.upper), self.limit)
        rotations = _series(skew, self.terms) if self.terms else _rotation(skew)
        blocks = matrix.reshape(len(matrix), -1, skew.shape[-1])
        turned = torch.einsum("obk,bjk->obj", blocks, rotations.expand(blocks.shape[1], -1, -1))
        return turned.reshape(weight.shape) - weight


def _size(numbers: int) -> int:
    """n, of n (n - 1) / 2."""
    return (1 + math.isqrt(1 + 8 * numbers)) // 2


def _skew(upper: Tensor) -> Tensor:
    size = _size(upper.shape[1])
    rows, columns = torch.triu_indices(size, size, 1)
    made = upper.new_zeros(len(upper), size, size)
    made[:, rows, columns] = upper
    return made - made.transpose(1, 2)


def _limited(skew: Tensor, limit: float) -> Tensor:
    if limit <= 0:
        return skew
    norms = skew.square().sum((1, 2), keepdim=True).sqrt()
    return skew * (limit / math.sqrt(len(skew)) / norms).clamp(max=1)


def _rotation(skew: Tensor) -> Tensor:
    """(I - Q)(I + Q)^-1."""
    one = torch.eye(skew.shape[-1], device=skew.device)
    return (one - skew) @ cast("Tensor", torch.linalg.inv(one + skew))


def _series(skew: Tensor, terms: int) -> Tensor:
    """I + 2Q + 2Q^2 + … + Q^n, near (I + Q)(I - Q)^-1 for a small Q: PEFT counts the last power once, from three terms
    on, of which the third and the fourth are one."""
    power = torch.eye(skew.shape[-1], device=skew.device).expand_as(skew)
    made, last = power, max(terms - 1, 3) if terms > 2 else terms - 1
    for number in range(1, last + 1):
        power = power @ skew
        made = made + (power if number == last and terms > 2 else 2 * power)
    return made


def _fits(shapes: Shapes, weight: Shape) -> bool:
    """Kernels of more than a point are left out: PEFT itself computes one thing in training and merges another."""
    upper = shapes[TRIANGLE]
    if len(upper) != 2 or len(weight) < 2 or math.prod(weight[2:]) != 1:
        return False
    size, inputs = _size(upper[1]), as_matrix(weight)[1]
    return size * (size - 1) // 2 == upper[1] and inputs % size == 0 and upper[0] in {1, inputs // size}


def _build(values: Values) -> Mapping[str, Delta]:
    own = values.tensors
    terms, limit = int(own.get(TERMS, DEFAULT_TERMS)), float(own.get(LIMIT, 0))
    return {WEIGHT: Turned(own[TRIANGLE], terms, limit)}


SPECS = (
    WeightKind(
        "OFT of inputs",
        endings={TRIANGLE: (".oft_R.weight",)},
        is_of=lambda slots: slots == {TRIANGLE},
        fits=_fits,
        build=_build,
        of_peft=True,
    ),
)
