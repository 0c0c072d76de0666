"""The line drawing network of ControlNet: the generator of informative drawings (Chan 2022, arXiv:2203.12691), which is
that of Johnson 2016 and of CycleGAN with 3 residual blocks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

HALVINGS = 2
"""How often the resolution is halved on the way in and doubled on the way out."""


@dataclass(frozen=True, slots=True)
class LineDrawingSpec:
    """width: channels at the image's own resolution; blocks: residual ones in the middle."""

    width: int = 64
    blocks: int = 3


class Residual(nn.Module):
    """Two convolutions, the image mirrored beyond its border, and what went in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect")
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return x + F.instance_norm(self.conv2(_normed(self.conv1(x))))


class LineDrawing(nn.Module):
    """Dark lines on white of images. No norm has weights, and each sees one image alone."""

    def __init__(self, spec: LineDrawingSpec) -> None:
        super().__init__()
        self.spec = spec
        widths = [spec.width * 2**n for n in range(HALVINGS + 1)]
        pairs = list(pairwise(widths))
        self.first = nn.Conv2d(3, spec.width, 7, padding=3, padding_mode="reflect")
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.middle = nn.ModuleList(Residual(widths[-1]) for _ in range(spec.blocks))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 3, stride=2, padding=1, output_padding=1) for a, b in reversed(pairs)
        )
        self.last = nn.Conv2d(spec.width, 1, 7, padding=3, padding_mode="reflect")

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """x: RGB, 0 to 1, its sides multiples of 4. 0 is a line, 1 is none."""
        x = _normed(self.first(x))
        for conv in self.down:
            x = _normed(conv(x))
        for block in self.middle:
            x = block(x)
        for conv in self.up:
            x = _normed(conv(x))
        return self.last(x).sigmoid()


def _normed(x: Tensor) -> Tensor:
    return F.instance_norm(x).relu()
