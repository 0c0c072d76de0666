"""ControlNet-LLLite, as kohya-ss publishes it: small networks that change what an attention's projections read.

Each reads the hint for itself down to the resolution of its attention, and beside each position of it the position of
the input: x + up(relu(mid([hint, relu(down(x))]))).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class LiteSpec:
    """One of them. path: of the projection before which it stands, as in `Ports.inputs`; width: of what that reads;
    inner: between its layers; convs: (inputs, outputs, kernel) of the convolutions that read the hint, whose strides
    are their kernels."""

    path: str
    width: int
    inner: int
    convs: tuple[tuple[int, int, int], ...]

    @property
    def factor(self) -> int:
        """Pixels of the hint per position, along a side."""
        product = 1
        for _, _, kernel in self.convs:
            product *= kernel
        return product


class Lite(nn.Module):
    """What stands before one projection."""

    def __init__(self, spec: LiteSpec) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(ins, outs, side, stride=side) for ins, outs, side in spec.convs)
        self.down = nn.Linear(spec.width, spec.inner)
        self.mid = nn.Linear(spec.convs[-1][1] + spec.inner, spec.inner)
        self.up = nn.Linear(spec.inner, spec.width)

    def read(self, hint: Float[Tensor, "n k H W"]) -> Float[Tensor, "n c h w"]:
        """hint: in [-1, 1]."""
        first, *others = self.convs
        hint = first(hint)
        for conv in others:
            hint = conv(F.relu(hint))
        return hint

    def forward(self, x: Float[Tensor, "b t c"], hint: Float[Tensor, "b t d"]) -> Float[Tensor, "b t c"]:
        """What is added to x."""
        seen = torch.cat([hint, F.relu(self.down(x))], dim=-1)
        return self.up(F.relu(self.mid(seen)))


class LLLite(nn.Module):
    """All of a file."""

    def __init__(self, spec: tuple[LiteSpec, ...]) -> None:
        super().__init__()
        self.spec = spec
        self.layers = nn.ModuleList(Lite(own) for own in spec)

    def lites(self) -> Iterator[Lite]:
        """All, in the order of `spec`."""
        for layer in self.layers:
            assert isinstance(layer, Lite)
            yield layer

    def forward(self, hint: Float[Tensor, "n k H W"]) -> tuple[Tensor, ...]:
        """hint: in [-1, 1]. What each makes of it."""
        return tuple(layer.read(hint) for layer in self.lites())
