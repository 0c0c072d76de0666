"""DoRA (Liu 2024, arXiv:2402.09353, equation 5): the direction of the changed weight, with a learned length.

It comes with another kind: the length of every output or input channel is set after the difference has been added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from atelier.adapters.delta import WEIGHT, Delta, Shape, Shapes

TINY = 1e-12
"""In place of a length of 0, whose channel stays 0."""
SCALE, MAGNITUDE = "dora_scale", "magnitude"
ENDINGS: Mapping[str, tuple[str, ...]] = {
    SCALE: (".dora_scale",),
    MAGNITUDE: (".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
}
"""Slots: lengths along the axis that their shape says, and PEFT's, which are always those of the output channels."""


@dataclass(frozen=True, slots=True)
class Decomposed(Delta):
    """V = W + inner; then V * lengths / |V|, where the norm is over all axes but the output's, or but the input's.

    In training no gradient goes through the norm (section 4.3).
    """

    inner: Delta
    lengths: Tensor
    of_outputs: bool

    def difference(self, weight: Tensor) -> Tensor:
        changed = weight + self.inner.difference(weight)
        axis = 0 if self.of_outputs else 1
        norm = _lengths(changed.detach(), axis).clamp(min=TINY)
        lengths = self.lengths.reshape([-1 if n == axis else 1 for n in range(weight.ndim)])
        return changed * (lengths / norm) - weight


def lengths_of(weight: Tensor) -> Tensor:
    """The lengths of the output channels of a weight as they are: (out,), a vector, which optimizers let not decay."""
    return _lengths(weight.detach().float(), 0).flatten()


def shape_of(weight: Shape) -> Shape:
    """Of the lengths of the output channels in a file: (out, 1, …)."""
    return (weight[0], *(1,) * len(weight[1:]))


def _lengths(weight: Tensor, axis: int) -> Tensor:
    """Of the channels along an axis, which alone is left of the weight's."""
    return weight.square().sum([n for n in range(weight.ndim) if n != axis], keepdim=True).sqrt()


def fits(shapes: Shapes, weight: Shape) -> bool:
    """Whether the lengths are those of a weight of this shape, where a file says any."""
    lengths = shapes.get(SCALE)
    if len(weight) < 2:
        return not {SCALE, MAGNITUDE} & shapes.keys()
    if MAGNITUDE in shapes:
        return math.prod(shapes[MAGNITUDE]) == weight[0]
    return lengths is None or math.prod(lengths) == weight[0 if of_outputs(lengths) else 1]


def of_outputs(lengths: Shape) -> bool:
    """Whether they are those of the output channels, by their shape."""
    return len(lengths) < 2 or lengths[0] != 1 or lengths[1] == 1


def mixes(shapes: Shapes) -> bool:
    """Whether what it does to a row of the weight depends on the other rows: so do lengths of input channels."""
    return SCALE in shapes and MAGNITUDE not in shapes and not of_outputs(shapes[SCALE])


def decomposed(deltas: Mapping[str, Delta], tensors: Mapping[str, Tensor]) -> Mapping[str, Delta]:
    """The deltas of a layer with the lengths that its file says, if it says any."""
    if MAGNITUDE in tensors:
        return {**deltas, WEIGHT: Decomposed(deltas[WEIGHT], tensors[MAGNITUDE].flatten(), of_outputs=True)}
    if SCALE not in tensors:
        return deltas
    lengths = tensors[SCALE]
    return {**deltas, WEIGHT: Decomposed(deltas[WEIGHT], lengths.flatten(), of_outputs(tuple(lengths.shape)))}
