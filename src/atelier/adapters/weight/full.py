"""Full differences: of a weight and its bias, also those of norms, as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from atelier.adapters.delta import BIAS, WEIGHT, Delta, Values, WeightKind


@dataclass(frozen=True, slots=True)
class Whole(Delta):
    """The difference itself."""

    own: Tensor

    def difference(self, weight: Tensor) -> Tensor:
        return self.own.reshape(weight.shape)


PARAMETERS: Mapping[str, str] = {"diff": WEIGHT, "diff_b": BIAS, "w_norm": WEIGHT, "b_norm": BIAS}


def _build(values: Values) -> Mapping[str, Delta]:
    return {PARAMETERS[slot]: Whole(tensor) for slot, tensor in values.tensors.items() if slot in PARAMETERS}


SPECS = (
    WeightKind(
        "full",
        endings={"diff": (".diff",), "diff_b": (".diff_b",)},
        is_of=lambda slots: "diff" in slots and slots <= {"diff", "diff_b"},
        build=_build,
        aliases=("difference",),
    ),
    WeightKind(
        "norm",
        endings={"w_norm": (".w_norm",), "b_norm": (".b_norm",)},
        is_of=lambda slots: "w_norm" in slots and slots <= {"w_norm", "b_norm"},
        build=_build,
    ),
)
