"""LoHa (Hyeon-Woo 2021, arXiv:2108.06098, FedPara): the product, element by element, of two low-rank matrices."""

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
    core_fits,
    product,
    tucker,
)

FACTORS = frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"})
CORES = frozenset({"hada_t1", "hada_t2"})


@dataclass(frozen=True, slots=True)
class Hadamard(Delta):
    """scale * left * right, each a low-rank matrix: a @ b with a (out, r), b (r, in · k · k); with a core (r, r, k, k)
    a is (r, out) and b (r, in)."""

    left: tuple[Tensor, Tensor, Tensor | None]
    right: tuple[Tensor, Tensor, Tensor | None]
    scale: float

    def difference(self, weight: Tensor) -> Tensor:
        left, right = (_matrix(*factors) for factors in (self.left, self.right))
        return (self.scale * left * right).reshape(weight.shape)


def _matrix(a: Tensor, b: Tensor, core: Tensor | None) -> Tensor:
    return a @ b if core is None else tucker(core, a, b)


def _fits(shapes: Shapes, weight: Shape) -> bool:
    return all(_side_fits(shapes, number, weight) for number in (1, 2))


def _side_fits(shapes: Shapes, number: int, weight: Shape) -> bool:
    a, b, core = shapes[f"hada_w{number}_a"], shapes[f"hada_w{number}_b"], shapes.get(f"hada_t{number}")
    return product(a, b) == as_matrix(weight) if core is None else core_fits(core, a, b, weight)


def _build(values: Values) -> Mapping[str, Delta]:
    own = values.tensors
    left = own["hada_w1_a"], own["hada_w1_b"], own.get("hada_t1")
    right = own["hada_w2_a"], own["hada_w2_b"], own.get("hada_t2")
    return {WEIGHT: Hadamard(left, right, values.scale(len(own["hada_w1_b"])))}


def _new(weight: Shape, size: Size, random: torch.Generator) -> dict[str, Tensor]:
    """As LyCORIS begins it: the second matrix is zero, the first one small."""
    rank, (outputs, inputs) = size.of(weight), as_matrix(weight)
    return {
        "hada_w1_a": torch.empty(outputs, rank).normal_(std=0.1, generator=random),
        "hada_w1_b": torch.empty(rank, inputs).normal_(generator=random),
        "hada_w2_a": torch.zeros(outputs, rank),
        "hada_w2_b": torch.empty(rank, inputs).normal_(generator=random),
        ALPHA: torch.tensor(size.alpha * rank / size.rank),
    }


SPECS = (
    WeightKind(
        "LoHa",
        endings={slot: (f".{slot}",) for slot in sorted(FACTORS | CORES)},
        is_of=lambda slots: slots in (FACTORS, FACTORS | CORES),
        fits=_fits,
        build=_build,
        new=_new,
        rank=lambda shapes: shapes["hada_w1_b"][0],
    ),
)
