"""LoKr (Yeh 2023, arXiv:2309.14859, section 3.3): a Kronecker product whose factors may be of low rank themselves."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.adapters.delta import (
    WEIGHT,
    Delta,
    Shape,
    Shapes,
    Values,
    WeightKind,
    as_matrix,
    core_fits,
    product,
    tucker,
)

FIRST = (frozenset({"lokr_w1"}), frozenset({"lokr_w1_a", "lokr_w1_b"}))
SECOND = (
    frozenset({"lokr_w2"}),
    frozenset({"lokr_w2_a", "lokr_w2_b"}),
    frozenset({"lokr_w2_a", "lokr_w2_b", "lokr_t2"}),
)


@dataclass(frozen=True, slots=True)
class Kronecker(Delta):
    """scale * kron(first, second). first: (a, b); second: (c, d), (c, d, k, k) or (c, d · k · k); out = a · c, in =
    b · d."""

    first: Tensor
    second: Tensor
    scale: float

    def difference(self, weight: Tensor) -> Tensor:
        kernel = weight.shape[2:]
        second = self.second.reshape(len(self.second), -1, *kernel).contiguous()
        product_ = torch.kron(self.first.reshape(*self.first.shape, *(1,) * len(kernel)), second)
        return (self.scale * product_).reshape(weight.shape)


def _is_of(slots: AbstractSet[str]) -> bool:
    return any(slots == first | second for first in FIRST for second in SECOND)


def _fits(shapes: Shapes, weight: Shape) -> bool:
    first = shapes["lokr_w1"] if "lokr_w1" in shapes else product(shapes["lokr_w1_a"], shapes["lokr_w1_b"])
    if first is None or len(first) != 2 or weight[0] % first[0] or weight[1] % first[1]:
        return False
    part = (weight[0] // first[0], weight[1] // first[1], *weight[2:])
    if "lokr_w2" in shapes:
        return shapes["lokr_w2"] == part
    a, b = shapes["lokr_w2_a"], shapes["lokr_w2_b"]
    return core_fits(shapes["lokr_t2"], a, b, part) if "lokr_t2" in shapes else product(a, b) == as_matrix(part)


def _build(values: Values) -> Mapping[str, Delta]:
    """alpha counts only where a factor is of low rank; otherwise there is no rank to divide it by."""
    own = values.tensors
    ranks = [len(own[slot]) for slot in ("lokr_w2_b", "lokr_w1_b") if slot in own]
    first = own["lokr_w1"] if "lokr_w1" in own else own["lokr_w1_a"] @ own["lokr_w1_b"]
    return {WEIGHT: Kronecker(first, _second(own), values.scale(ranks[0]) if ranks else 1.0)}


def _second(own: Mapping[str, Tensor]) -> Tensor:
    if "lokr_w2" in own:
        return own["lokr_w2"]
    a, b = own["lokr_w2_a"], own["lokr_w2_b"]
    return tucker(own["lokr_t2"], a, b) if "lokr_t2" in own else a @ b


SPECS = (
    WeightKind(
        "LoKr",
        endings={slot: (f".{slot}",) for slot in sorted(frozenset[str]().union(*FIRST, *SECOND))},
        is_of=_is_of,
        fits=_fits,
        build=_build,
    ),
)
