"""GLoRA (Chavan 2023, arXiv:2306.07967), as LyCORIS keeps it: a difference that also depends on the weight."""

from __future__ import annotations

from collections.abc import Mapping
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
    product,
    spread_evenly,
)

SLOTS = ("a1", "a2", "b1", "b2")


@dataclass(frozen=True, slots=True)
class Generalized(Delta):
    """scale * (W · inner + up @ down). inner: (in, r) @ (r, in), which mixes the input channels; up: (out, r); down:
    (r, in · k · k)."""

    into: Tensor
    out_of: Tensor
    up: Tensor
    down: Tensor
    scale: float

    def difference(self, weight: Tensor) -> Tensor:
        mixed = weight.movedim(1, -1) @ self.into @ self.out_of
        return self.scale * (mixed.movedim(-1, 1) + (self.up @ self.down).reshape(weight.shape))


def _is_new(shapes: Shapes) -> bool:
    """Whether the ranks are between the first and the second of each pair. The matrices of square layers can be
    multiplied either way; there the ranks are the fewer."""
    a1, a2, b1, b2 = (as_matrix(shapes[slot]) for slot in SLOTS)
    between, around = {a1[1], a2[0], b1[1], b2[0]}, {a1[0], a2[1], b1[0], b2[1]}
    return len(between) == 1 and (len(around) > 1 or min(between) <= min(around))


def _fits(shapes: Shapes, weight: Shape) -> bool:
    a1, a2, b1, b2 = (shapes[slot] for slot in (SLOTS if _is_new(shapes) else ("a2", "a1", "b2", "b1")))
    return product(a1, a2) == (weight[1], weight[1]) and product(b1, b2) == as_matrix(weight)


def _build(values: Values) -> Mapping[str, Delta]:
    """Files of older versions have the two of each pair the other way round; where the ranks are, tells."""
    a1, a2, b1, b2 = (values.tensors[slot].flatten(1) for slot in SLOTS)
    if not _is_new({slot: tuple(values.tensors[slot].shape) for slot in SLOTS}):
        a1, a2, b1, b2 = a2, a1, b2, b1
    return {WEIGHT: Generalized(a1, a2, b1, b2, values.scale(len(a2)))}


def _new(weight: Shape, size: Size, random: torch.Generator) -> dict[str, Tensor]:
    """As LyCORIS begins it: the second of each pair is zero."""
    rank, ones = min(size.of(weight), weight[1]), (1,) * len(weight[2:])
    return {
        "a1": spread_evenly((weight[1], rank, *ones), random),
        "a2": torch.zeros(rank, weight[1], *ones),
        "b1": torch.zeros(weight[0], rank, *ones),
        "b2": spread_evenly((rank, *weight[1:]), random),
        ALPHA: torch.tensor(size.alpha * rank / size.rank),
    }


SPECS = (
    WeightKind(
        "GLoRA",
        endings={slot: (f".{slot}.weight",) for slot in SLOTS},
        is_of=lambda slots: slots == set(SLOTS),
        fits=_fits,
        build=_build,
        new=_new,
    ),
)
