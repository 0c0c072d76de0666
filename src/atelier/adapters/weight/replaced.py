"""Weights that were trained as a whole and are in the file as they are: PEFT's `modules_to_save`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from atelier.adapters.delta import BIAS, NEW_BIAS, WEIGHT, Delta, Values, WeightKind


@dataclass(frozen=True, slots=True)
class Replaced(Delta):
    """Another parameter in the place of this one: at a strength between 0 and 1, something between the two."""

    own: Tensor

    def difference(self, weight: Tensor) -> Tensor:
        return self.own.reshape(weight.shape) - weight


def new_bias(tensors: Mapping[str, Tensor]) -> Mapping[str, Delta]:
    """The bias that a file has for a layer, whatever it does to the weight."""
    return {BIAS: Replaced(tensors[NEW_BIAS])} if NEW_BIAS in tensors else {}


def _build(values: Values) -> Mapping[str, Delta]:
    return {WEIGHT: Replaced(values.tensors["channels"])}


SPECS = (
    WeightKind(
        "replaced",
        endings={"channels": (".weight",)},
        is_of=lambda slots: slots == {"channels"},
        fits=lambda shapes, weight: math.prod(shapes["channels"]) == math.prod(weight),
        build=_build,
        of_peft=True,
    ),
)
