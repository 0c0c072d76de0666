"""LoRA of embeddings, as PEFT keeps it: the rows of the weight belong to tokens, so that its product is turned over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from atelier.adapters.delta import WEIGHT, Delta, Shape, Shapes, Values, WeightKind, as_matrix, product

FIRST, SECOND = "embedding_a", "embedding_b"


@dataclass(frozen=True, slots=True)
class OfTokens(Delta):
    """scale * (second @ first)^T. first: (r, tokens); second: (width, r)."""

    first: Tensor
    second: Tensor
    scale: float

    def difference(self, weight: Tensor) -> Tensor:
        return (self.scale * self.first.T @ self.second.T).reshape(weight.shape)


def _fits(shapes: Shapes, weight: Shape) -> bool:
    return product(shapes[SECOND], shapes[FIRST]) == as_matrix(weight)[::-1]


def _build(values: Values) -> Mapping[str, Delta]:
    first, second = values.tensors[FIRST], values.tensors[SECOND]
    return {WEIGHT: OfTokens(first, second, values.scale(len(first)))}


SPECS = (
    WeightKind(
        "LoRA of embeddings",
        endings={FIRST: (".lora_embedding_A.weight",), SECOND: (".lora_embedding_B.weight",)},
        is_of=lambda slots: slots == {FIRST, SECOND},
        fits=_fits,
        build=_build,
        rank=lambda shapes: shapes[FIRST][0],
        of_peft=True,
    ),
)
