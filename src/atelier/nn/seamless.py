"""Maps whose opposite edges meet, so that what is made of them repeats without a seam."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Seamless:
    """In which directions the edges of a map meet. x: the right edge goes on at the left; y: the bottom at the top."""

    x: bool = False
    y: bool = False


EDGES = Seamless()
"""Nowhere: what lies beyond an edge is zero."""


class Conv(nn.Conv2d):
    """A convolution with square kernel, stride and padding that is told at every call where the edges of its map meet.

    It keeps nothing of that, so that two requests can use one network at once. From outside it is a Conv2d.
    """

    def forward(self, input: Float[Tensor, "b c h w"], *, seamless: Seamless = EDGES) -> Tensor:  # noqa: A002 - torch's own name
        if seamless == EDGES:
            return super().forward(input)
        wide = int(self.padding[0])
        around = padded(input, (wide, wide), seamless)
        return F.conv2d(around, self.weight, self.bias, self.stride)


def padded(x: Float[Tensor, "b c h w"], sides: tuple[int, int], seamless: Seamless) -> Tensor:
    """x with (before, after) more positions on each axis: those of the opposite edge where edges meet, else 0."""
    before, after = sides
    x = F.pad(x, (before, after, 0, 0), mode="circular" if seamless.x else "constant")
    return F.pad(x, (0, 0, before, after), mode="circular" if seamless.y else "constant")
