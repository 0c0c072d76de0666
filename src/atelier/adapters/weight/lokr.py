"""LoKr (Yeh 2023, arXiv:2309.14859, section 3.3): a Kronecker product whose factors may be of low rank themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.adapters.delta import (
    ALPHA,
    WEIGHT,
    Delta,
    Shape,
    Shapes,
    Size,
    Values,
    WeightKind,
    as_matrix,
    core_fits,
    product,
    spread_evenly,
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
        return _without_point(shapes["lokr_w2"]) == _without_point(part)
    a, b = shapes["lokr_w2_a"], shapes["lokr_w2_b"]
    return core_fits(shapes["lokr_t2"], a, b, part) if "lokr_t2" in shapes else product(a, b) == as_matrix(part)


def _without_point(weight: Shape) -> Shape:
    """A kernel of a point as the linear layer that it is."""
    return weight[:2] if math.prod(weight[2:]) == 1 else weight


def _build(values: Values) -> Mapping[str, Delta]:
    """alpha counts only where a factor is of low rank; otherwise there is no rank to divide it by."""
    own = values.tensors
    first = own["lokr_w1"] if "lokr_w1" in own else own["lokr_w1_a"] @ own["lokr_w1_b"]
    return {
        WEIGHT: Kronecker(first, _second(own), values.scale(_rank({slot: tuple(t.shape) for slot, t in own.items()})))
    }


def _rank(shapes: Shapes) -> int | None:
    return next((shapes[slot][0] for slot in ("lokr_w2_b", "lokr_w1_b") if slot in shapes), None)


def _second(own: Mapping[str, Tensor]) -> Tensor:
    if "lokr_w2" in own:
        return own["lokr_w2"]
    a, b = own["lokr_w2_a"], own["lokr_w2_b"]
    return tucker(own["lokr_t2"], a, b) if "lokr_t2" in own else a @ b


def halves(count: int, factor: int) -> tuple[int, int]:
    """(m, n), m <= n, whose product is the count: with `factor` as one of them where it divides the count; else the
    most even two that there are, m at most the factor where that is not -1. LyCORIS' rule.
    """
    if factor > 0 and count % factor == 0:
        one, other = sorted((factor, count // factor))
        return one, other
    most = math.isqrt(count) if factor == -1 else min(factor, math.isqrt(count))
    first = next(m for m in range(max(most, 1), 0, -1) if count % m == 0)
    return first, count // first


def _new(weight: Shape, size: Size, random: torch.Generator) -> dict[str, Tensor]:
    """The second factor is zero, and of low rank where that is smaller than the whole one: then alpha counts, which
    LyCORIS wants in every file."""
    (out_first, out_second), (in_first, in_second) = (halves(count, size.factor) for count in weight[:2])
    kernel = weight[2:]
    inner = in_second * math.prod(kernel)
    first = spread_evenly((out_first, in_first), random)
    if 2 * size.rank >= max(out_second, inner):
        second = torch.zeros(out_second, in_second, *kernel)
        return {"lokr_w1": first, "lokr_w2": second, ALPHA: torch.tensor(size.alpha)}
    return {
        "lokr_w1": first,
        "lokr_w2_a": torch.zeros(out_second, size.rank),
        "lokr_w2_b": spread_evenly((size.rank, inner), random),
        ALPHA: torch.tensor(size.alpha),
    }


SPECS = (
    WeightKind(
        "LoKr",
        endings={slot: (f".{slot}",) for slot in sorted(frozenset[str]().union(*FIRST, *SECOND))},
        is_of=_is_of,
        fits=_fits,
        build=_build,
        new=_new,
        rank=_rank,
    ),
)
