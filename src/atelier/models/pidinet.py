"""PiDiNet, soft edges by pixel differences (Su 2021, arXiv:2108.07009), as ControlNet uses it (table5_pidinet.pth)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Kind = Literal["central", "angular", "radial", "plain"]
KINDS: tuple[Kind, ...] = ("central", "angular", "radial", "plain")
"""Of the layers, over and over from the first one (the configuration CARV4 of the paper, section 4.2)."""
STAGES, BLOCKS = 4, 4
NEXT = (3, 0, 1, 6, 4, 2, 7, 8, 5)
"""Of a kernel of 3 x 3, row by row: the neighbour counterclockwise of each weight."""
RIM = (0, 2, 4, 10, 14, 20, 22, 24)
RING = (6, 7, 8, 11, 13, 16, 17, 18)
"""Places in a kernel of 5 x 5: the ends of its eight rays, and halfway to them."""
DILATIONS = (5, 7, 9, 11)
ATTENTION = 4
"""Channels that the attention of a stage is made in."""


@dataclass(frozen=True, slots=True)
class PidiNetSpec:
    """width: channels of the first stage; side: those that a stage tells its edges by."""

    width: int = 60
    side: int = 24

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the four stages."""
        return self.width, 2 * self.width, 4 * self.width, 4 * self.width


class Difference(nn.Module):
    """A convolution of differences between pixels: one whose kernel is made of `weight` (Su 2021, section 3.1)."""

    def __init__(self, kind: Kind, channels: int, width: int, groups: int = 1) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(width, channels // groups, 3, 3))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        kernel = _kernel(self.weight, self.kind)
        return F.conv2d(x, kernel, padding=kernel.shape[-1] // 2, groups=self.groups)


def _kernel(weight: Tensor, kind: Kind) -> Tensor:
    flat: Tensor = weight.flatten(2)
    if kind == "central":
        flat = flat.clone()
        flat[..., 4] -= weight.sum((2, 3))
    elif kind == "angular":
        flat = flat - flat[..., list(NEXT)]
    elif kind == "radial":
        kernel = weight.new_zeros(*weight.shape[:2], 25)
        kernel[..., list(RIM)], kernel[..., list(RING)] = flat[..., 1:], -flat[..., 1:]
        return kernel.reshape(*weight.shape[:2], 5, 5)
    return flat.reshape(weight.shape)


class Block(nn.Module):
    """A difference within each channel, a mixture of channels, and what went in; the first of a stage halves."""

    def __init__(self, kind: Kind, channels: int, width: int, *, halves: bool) -> None:
        super().__init__()
        self.conv1 = Difference(kind, channels, channels, groups=channels)
        self.conv2 = nn.Conv2d(channels, width, 1, bias=False)
        self.shortcut = nn.Conv2d(channels, width, 1) if halves else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        if self.shortcut is None:
            return x + self.conv2(self.conv1(x).relu())
        x = F.max_pool2d(x, 2)
        return self.shortcut(x) + self.conv2(self.conv1(x).relu())


class Side(nn.Module):
    """Edges of a stage: seen widely, weighed by place, mapped to one channel."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, width, 1)
        self.wide = nn.ModuleList(nn.Conv2d(width, width, 3, dilation=d, padding=d, bias=False) for d in DILATIONS)
        self.attention1 = nn.Conv2d(width, ATTENTION, 1)
        self.attention2 = nn.Conv2d(ATTENTION, 1, 3, padding=1, bias=False)
        self.reduce = nn.Conv2d(width, 1, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        x = self.narrow(x.relu())
        x = torch.stack([conv(x) for conv in self.wide]).sum(0)
        return self.reduce(x * self.attention2(self.attention1(x.relu())).sigmoid())


class PidiNet(nn.Module):
    """Edges of images, 0 to 1."""

    def __init__(self, spec: PidiNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.first = Difference(KINDS[0], 3, spec.width)
        self.stages = nn.ModuleList(nn.ModuleList(_stage(spec, n)) for n in range(STAGES))
        self.sides = nn.ModuleList(Side(width, spec.side) for width in spec.widths)
        self.classifier = nn.Conv2d(STAGES, 1, 1)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """x: 0 to 1, its channels blue, green, red; its sides multiples of 8."""
        size, x, told = x.shape[-2:], self.first(x), list[Tensor]()
        for blocks, side in zip(self.stages, self.sides, strict=True):
            for block in blocks if isinstance(blocks, nn.ModuleList) else ():
                x = block(x)
            told.append(F.interpolate(side(x), size=size, mode="bilinear", align_corners=False))
        return self.classifier(torch.cat(told, 1)).sigmoid()


def _stage(spec: PidiNetSpec, stage: int) -> list[Block]:
    """The first convolution stands where the first stage would have its first block."""
    before, width = (spec.width, *spec.widths)[stage], spec.widths[stage]
    kinds: list[Kind] = [KINDS[(BLOCKS * stage + n) % len(KINDS)] for n in range(BLOCKS)]
    blocks = [Block(kind, before if n == 0 else width, width, halves=n == 0) for n, kind in enumerate(kinds)]
    return blocks[1:] if stage == 0 else blocks
