"""RRDBNet, the network of ESRGAN and Real-ESRGAN (Wang 2018, section 3.1; Wang 2021, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SLOPE = 0.2
"""Of the leaky rectifiers."""
RESIDUAL = 0.2
"""What a block adds is scaled by this (ESRGAN, section 3.1: residual scaling)."""
CONVS = 5
"""Of a dense block."""


@dataclass(frozen=True, slots=True)
class RrdbSpec:
    """Everything that shapes the network. The defaults are Real-ESRGAN x4plus; anime 6B has 6 blocks.

    channels: of the image; unshuffle: pixels of so many rows and columns become channels on the way in, so that the
    network works at a lower resolution; doublings: how often the resolution is doubled on the way out. pointwise: dense
    blocks have the extra 1x1 convolution of ESRGAN+ (Rakotonirina 2020).
    """

    channels: int = 3
    out_channels: int = 3
    width: int = 64
    growth: int = 32
    blocks: int = 23
    unshuffle: int = 1
    doublings: int = 2
    pointwise: bool = False

    @property
    def scale(self) -> int:
        """How many times larger the image becomes."""
        return 2**self.doublings // self.unshuffle


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it made."""

    def __init__(self, spec: RrdbSpec) -> None:
        super().__init__()
        width, growth = spec.width, spec.growth
        for i in range(1, CONVS):
            self.add_module(f"conv{i}", nn.Conv2d(width + (i - 1) * growth, growth, 3, padding=1))
        self.conv5 = nn.Conv2d(width + (CONVS - 1) * growth, width, 3, padding=1)
        self.conv1x1 = nn.Conv2d(width, growth, 1, bias=False) if spec.pointwise else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        made = [x]
        for i in range(1, CONVS):
            new = _rectified(self.get_submodule(f"conv{i}")(torch.cat(made, 1)))
            if self.conv1x1 is not None and i == 2:
                new = new + self.conv1x1(x)
            if self.conv1x1 is not None and i == 4:
                new = new + made[2]
            made.append(new)
        return x + RESIDUAL * self.conv5(torch.cat(made, 1))


class ResidualBlock(nn.Module):
    """The residual-in-residual dense block: three dense blocks and a residual around them."""

    def __init__(self, spec: RrdbSpec) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(spec)
        self.rdb2 = DenseBlock(spec)
        self.rdb3 = DenseBlock(spec)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return x + RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x)))


class RrdbNet(nn.Module):
    """Images in [0, 1] to images `spec.scale` times as large, in about [0, 1], not clamped.

    Sides must be multiples of `spec.unshuffle`.
    """

    def __init__(self, spec: RrdbSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.width
        self.conv_first = nn.Conv2d(spec.channels * spec.unshuffle**2, width, 3, padding=1)
        self.body = nn.ModuleList(ResidualBlock(spec) for _ in range(spec.blocks))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.ups = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(spec.doublings))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, spec.out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        first = self.conv_first(F.pixel_unshuffle(x, self.spec.unshuffle))
        hidden = first
        for block in self.body:
            hidden = block(hidden)
        hidden = first + self.conv_body(hidden)
        for up in self.ups:
            hidden = _rectified(up(F.interpolate(hidden, scale_factor=2.0, mode="nearest")))
        return self.conv_last(_rectified(self.conv_hr(hidden)))


def _rectified(x: Tensor) -> Tensor:
    """In place: x is what a convolution has just made, the largest tensors of the network among them."""
    return F.leaky_relu(x, SLOPE, inplace=True)
