"""SRVGGNetCompact, the small networks of Real-ESRGAN (github.com/xinntao/Real-ESRGAN: animevideov3, general x4v3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class SrvggSpec:
    """Everything that shapes the network. The defaults are realesr-animevideov3; general x4v3 has 32 layers.

    layers: convolutions between the first and the last; scale: how many times larger the image becomes.
    """

    channels: int = 3
    width: int = 64
    layers: int = 16
    scale: int = 4


class SrvggNet(nn.Module):
    """Images in [0, 1] to images `spec.scale` times as large, in about [0, 1], not clamped.

    A plain chain of convolutions at the resolution of the input; what it computes is added to the input's pixels,
    repeated.
    """

    def __init__(self, spec: SrvggSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs = [spec.channels, *[spec.width] * spec.layers]
        self.convs = nn.ModuleList(nn.Conv2d(width, spec.width, 3, padding=1) for width in inputs)
        self.acts = nn.ModuleList(nn.PReLU(spec.width) for _ in inputs)
        self.last = nn.Conv2d(spec.width, spec.channels * spec.scale**2, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        hidden = x
        for conv, act in zip(self.convs, self.acts, strict=True):
            hidden = act(conv(hidden))
        enlarged = F.interpolate(x, scale_factor=float(self.spec.scale), mode="nearest")
        return F.pixel_shuffle(self.last(hidden), self.spec.scale) + enlarged
