"""Deltas of layers that files keep otherwise than our networks: together with others, with halves swapped, or with
fewer inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from atelier.adapters.delta import Delta
from atelier.weights.load import swapped
from atelier.weights.names.name import Halves, Rows


@dataclass(frozen=True, slots=True)
class Arranged(Delta):
    """The rows of another delta that are a layer's. The other one must treat each row by itself; it sees zeros in place
    of the rows of other layers."""

    inner: Delta
    rule: Rows | Halves

    def difference(self, weight: Tensor) -> Tensor:
        if isinstance(self.rule, Halves):
            return swapped(self.inner.difference(swapped(weight)))
        filled = weight.new_zeros(self.rule.total, *weight.shape[1:])
        filled[self.rule.start : self.rule.start + self.rule.count] = weight
        return self.inner.difference(filled).narrow(0, self.rule.start, self.rule.count)


@dataclass(frozen=True, slots=True)
class OfFirst(Delta):
    """Another delta, of the first input channels of a convolution; those behind them stay as they are."""

    inner: Delta
    inputs: int

    def difference(self, weight: Tensor) -> Tensor:
        made = self.inner.difference(weight[:, : self.inputs].contiguous())
        return F.pad(made, (0, 0, 0, 0, 0, weight.shape[1] - self.inputs))


def arranged(delta: Delta, rule: Rows | Halves | None) -> Delta:
    return delta if rule is None else Arranged(delta, rule)
