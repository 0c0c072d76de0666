"""(IA)^3 (Liu 2022, arXiv:2205.05638, section 3.3): every input or output channel of a layer is scaled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.adapters.delta import BIAS, ON_INPUT, WEIGHT, Delta, Shape, Shapes, Size, Values, WeightKind


@dataclass(frozen=True, slots=True)
class Scaled(Delta):
    """The weight times `channels`, along its input or its output axis."""

    channels: Tensor
    on_input: bool

    def difference(self, weight: Tensor) -> Tensor:
        axis = 1 if self.on_input else 0
        shape = [-1 if n == axis else 1 for n in range(weight.ndim)]
        return weight * self.channels.reshape(shape)


def _fits(shapes: Shapes, weight: Shape) -> bool:
    """Which axis it is, is known only when the file is read."""
    return len(weight) > 1 and math.prod(shapes["channels"]) in weight[:2] and shapes["on_input"] in ((), (1,))


def _build(values: Values) -> Mapping[str, Delta]:
    own = values.tensors
    return {WEIGHT: Scaled(values.scale() * own["channels"].flatten(), bool(own["on_input"]))}


def _new(weight: Shape, _: Size, __: torch.Generator) -> dict[str, Tensor]:
    """Of output channels, at one."""
    return {"channels": torch.zeros(weight[0]), "on_input": torch.tensor(data=False)}


LENGTHS = "ia3_l"
"""The slot of PEFT's numbers, which are 1 where they change nothing."""


def _lengths_fit(shapes: Shapes, weight: Shape) -> bool:
    """(inputs,) or (outputs, 1) of linear layers; of convolutions (1, channels, 1, 1), whichever the settings say."""
    lengths = shapes[LENGTHS]
    linear = lengths in ((1, weight[1]), (weight[0], 1))
    return linear if len(lengths) == 2 else math.prod(lengths) in weight[:2]


def _build_lengths(values: Values) -> Mapping[str, Delta]:
    """The output with its bias, or the input alone."""
    own = values.tensors[LENGTHS]
    on_input = own.shape[0] == 1 if own.ndim == 2 else bool(values.tensors.get(ON_INPUT, False))
    scaled = Scaled(own.flatten() - 1, on_input)
    return {WEIGHT: scaled} if on_input else {WEIGHT: scaled, BIAS: scaled}


SPECS = (
    WeightKind(
        "IA3 of PEFT",
        endings={LENGTHS: (".ia3_l.weight",)},
        is_of=lambda slots: slots == {LENGTHS},
        fits=_lengths_fit,
        build=_build_lengths,
        of_peft=True,
    ),
    WeightKind(
        "IA3",
        endings={"channels": (".weight",), "on_input": (".on_input",)},
        is_of=lambda slots: slots == {"channels", "on_input"},
        fits=_fits,
        build=_build,
        new=_new,
        aliases=("(ia)^3",),
    ),
)
