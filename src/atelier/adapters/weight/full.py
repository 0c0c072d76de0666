"""Full differences: of a weight and its bias, also those of norms, as they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.adapters.delta import BIAS, BIAS_DIFFERENCE, WEIGHT, Delta, Shape, Shapes, Size, Values, WeightKind


@dataclass(frozen=True, slots=True)
class Whole(Delta):
    """The difference itself."""

    own: Tensor

    def difference(self, weight: Tensor) -> Tensor:
        return self.own.reshape(weight.shape)


PARAMETERS: Mapping[str, str] = {"diff": WEIGHT, "w_norm": WEIGHT, "b_norm": BIAS}
NORM = frozenset({"w_norm", "b_norm"})


def _build(values: Values) -> Mapping[str, Delta]:
    found = {PARAMETERS[slot]: tensor for slot, tensor in values.tensors.items() if slot in PARAMETERS}
    return {name: Whole(values.scale() * own if name == WEIGHT else own) for name, own in found.items()}


def of_bias(tensors: Mapping[str, Tensor]) -> Mapping[str, Delta]:
    """What a file adds to the bias of a layer, whatever it does to the weight."""
    return {BIAS: Whole(tensors[BIAS_DIFFERENCE])} if BIAS_DIFFERENCE in tensors else {}


def _norm_fits(shapes: Shapes, weight: Shape) -> bool:
    return len(weight) == 1 and all(math.prod(shapes[slot]) == weight[0] for slot in NORM & shapes.keys())


def _new(weight: Shape, _: Size, __: torch.Generator) -> dict[str, Tensor]:
    return {"diff": torch.zeros(weight)}


SPECS = (
    WeightKind(
        "full",
        endings={"diff": (".diff",)},
        is_of=lambda slots: slots <= {"diff"},
        fits=lambda shapes, weight: math.prod(shapes.get("diff", weight)) == math.prod(weight),
        build=_build,
        aliases=("difference",),
        new=_new,
    ),
    WeightKind(
        "norm",
        endings={"w_norm": (".w_norm",), "b_norm": (".b_norm",)},
        is_of=lambda slots: bool(slots) and slots <= NORM,
        fits=_norm_fits,
        build=_build,
    ),
)
