"""T2I-Adapters (Mou et al. 2023, arXiv:2302.08453, section 3.3): small networks of features for the way down.

A full one keeps the U-Net's widths throughout; a light one has a quarter of them between its layers. Those for Stable
Diffusion XL start at half the resolution and halve it once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

NARROWED = 4
"""By how much a light one's layers are narrower than what it gives."""


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """Everything that shapes a T2I-Adapter. The defaults are full ones for Stable Diffusion 1.x.

    channels: of the hint; unshuffle: pixels along a side that become channels of one position; widths, blocks: of each
    level; light: whether layers are narrow; xl: whether only the third level halves the resolution, or all but the
    first.
    """

    channels: int = 3
    unshuffle: int = 8
    widths: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    light: bool = False
    xl: bool = False

    def inputs(self, level: int) -> int:
        """Channels that a level gets: of the hint, or of the level before."""
        if level:
            return self.widths[level - 1]
        return self.channels * self.unshuffle**2 if self.light else self.widths[0]

    def inner(self, level: int) -> int:
        """Channels between the layers of a level."""
        return self.widths[level] // NARROWED if self.light else self.widths[level]

    def halves(self, level: int) -> bool:
        """Whether a level starts at half the resolution of the one before."""
        return level == 2 if self.xl else level > 0

    def widens(self, level: int) -> bool:
        """Whether a level starts with a layer of its own."""
        return self.light or self.inputs(level) != self.inner(level)


class AdapterBlock(nn.Module):
    """Two convolutions with a residual around them."""

    def __init__(self, width: int, last: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, last, padding=last // 2)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return x + self.conv2(F.relu(self.conv1(x)))


class AdapterLevel(nn.Module):
    """Residual blocks of one width."""

    def __init__(self, spec: AdapterSpec, level: int) -> None:
        super().__init__()
        self.halves, inner = spec.halves(level), spec.inner(level)
        self.conv_in = nn.Conv2d(spec.inputs(level), inner, 1) if spec.widens(level) else None
        self.blocks = nn.ModuleList(AdapterBlock(inner, 3 if spec.light else 1) for _ in range(spec.blocks))
        self.conv_out = nn.Conv2d(inner, spec.widths[level], 1) if spec.light else None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d g v"]:
        if self.halves:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        if self.conv_in is not None:
            x = self.conv_in(x)
        for block in self.blocks:
            x = block(x)
        return x if self.conv_out is None else self.conv_out(x)


class T2IAdapter(nn.Module):
    """From a hint, features for each level of a U-Net's way down."""

    def __init__(self, spec: AdapterSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = spec.channels * spec.unshuffle**2
        self.conv_in = None if spec.light else nn.Conv2d(inputs, spec.widths[0], 3, padding=1)
        self.levels = nn.ModuleList(AdapterLevel(spec, level) for level in range(len(spec.widths)))

    def forward(self, hint: Float[Tensor, "n k H W"]) -> tuple[Tensor, ...]:
        """hint: in [0, 1], whose sides are multiples of `unshuffle`. Features of each level, from the first."""
        x = F.pixel_unshuffle(hint, self.spec.unshuffle)
        x = x if self.conv_in is None else self.conv_in(x)
        features: list[Tensor] = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return tuple(features)
