"""The soft edge network of ControlNet: a holistically-nested edge detector (Xie 2015, arXiv:1504.06375), five blocks of
VGG with an edge map from each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class HedSpec:
    """widths: channels of the blocks; depths: their convolutions. Each block but the first halves the resolution."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    depths: tuple[int, ...] = (2, 2, 3, 3, 3)


class Block(nn.Module):
    """Rectified convolutions, and what they say of edges."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        inputs = (channels, *[width] * (depth - 1))
        self.convs = nn.ModuleList(nn.Conv2d(each, width, 3, padding=1) for each in inputs)
        self.projection = nn.Conv2d(width, 1, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        for conv in self.convs:
            x = conv(x).relu()
        return x, self.projection(x)


class Hed(nn.Module):
    """Edges of images, before the sigmoid."""

    def __init__(self, spec: HedSpec) -> None:
        super().__init__()
        self.spec = spec
        self.norm = nn.Parameter(torch.empty(1, 3, 1, 1))
        inputs = (3, *spec.widths)
        made = zip(inputs, spec.widths, spec.depths, strict=False)
        self.blocks = nn.ModuleList(Block(*each) for each in made)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """x: RGB, 0 to 255, its sides multiples of 16. The mean of what the blocks say, each at the image's size."""
        size, x, told = x.shape[-2:], x - self.norm, list[Tensor]()
        for number, block in enumerate(self.blocks):
            x, edges = block(F.max_pool2d(x, 2) if number else x)
            told.append(F.interpolate(edges, size=size, mode="bilinear", align_corners=False))
        return torch.stack(told).mean(0)
