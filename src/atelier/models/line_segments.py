"""M-LSD, straight lines of images (Gu 2021, arXiv:2106.00186), its large form: MobileNetV2 (Sandler 2018,
arXiv:1801.04381) up to a sixteenth of the resolution, and a decoder up to the half."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.nn.batch_norm import FixedNorm

STRIDES = (1, 2, 2, 2, 1)
"""Of the first block of each stage; the layer before them halves as well."""
DILATION = 5
CENTRE = 7
"""Maps before that of the lines' centres are of use in training alone."""


@dataclass(frozen=True, slots=True)
class LineSegmentsSpec:
    """first: channels of the first layer; widths, depths: of the five stages; expansion: of a block's channels, in all
    stages but the first; side: channels of each input of the decoder; maps: that come out."""

    first: int = 32
    widths: tuple[int, ...] = (16, 24, 32, 64, 96)
    depths: tuple[int, ...] = (1, 2, 3, 4, 3)
    expansion: int = 6
    side: int = 64
    maps: int = 16


class Conv(nn.Module):
    """A convolution without bias and a norm. With a stride of 2 zeros lie to the right and below alone, as in
    TensorFlow."""

    def __init__(self, channels: int, width: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.pads = stride == 2
        padding = 0 if self.pads else kernel // 2
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, groups=groups, bias=False)
        self.norm = FixedNorm(width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return self.norm(self.conv(F.pad(x, (0, 1, 0, 1)) if self.pads else x))


class Block(nn.Module):
    """More channels, each seen alone, fewer channels; and what went in, where it has the same shape."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = Conv(channels, inner) if expansion > 1 else None
        self.see = Conv(inner, inner, 3, stride, groups=inner)
        self.project = Conv(inner, width)
        self.adds = stride == 1 and channels == width

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        made = self.project(F.relu6(self.see(inner)))
        return x + made if self.adds else made


class Trunk(nn.Module):
    def __init__(self, spec: LineSegmentsSpec) -> None:
        super().__init__()
        self.first = Conv(3 + 1, spec.first, 3, stride=2)
        self.stages = nn.ModuleList(nn.ModuleList(_stage(spec, n)) for n in range(len(spec.widths)))

    def forward(self, x: Float[Tensor, "b 4 h w"]) -> list[Tensor]:
        """What each stage gives."""
        x, made = F.relu6(self.first(x)), list[Tensor]()
        for stage in self.stages:
            for block in stage if isinstance(stage, nn.ModuleList) else ():
                x = block(x)
            made.append(x)
        return made


class Rectified(nn.Module):
    """A convolution with bias, a norm, a rectifier."""

    def __init__(self, channels: int, width: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2 * dilation, dilation=dilation)
        self.norm = FixedNorm(width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return self.norm(self.conv(x)).relu()


class Join(nn.Module):
    """What the trunk gave at a resolution beside what was decoded below it, mixed."""

    def __init__(self, channels: int, below: int, side: int) -> None:
        super().__init__()
        self.decoded = Rectified(below, side, 1)
        self.given = Rectified(channels, side, 1)
        self.mix1 = Rectified(2 * side, 2 * side, 3)
        self.mix2 = Rectified(2 * side, side, 3)

    def forward(self, given: Float[Tensor, "b c h w"], decoded: Float[Tensor, "b d i j"]) -> Tensor:
        below, size = self.decoded(decoded), given.shape[-2:]
        if below.shape[-2:] != size:
            below = F.interpolate(below, size=size, mode="bilinear", align_corners=True)
        x = torch.cat((self.given(given), below), 1)
        return self.mix2(self.mix1(x) + x)


class LineSegments(nn.Module):
    """Maps at half the resolution: of lines' centres (before the sigmoid), and of their ends relative to these."""

    def __init__(self, spec: LineSegmentsSpec) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = Trunk(spec)
        *most, last = spec.widths
        below = (last, *[spec.side] * (len(most) - 1))
        joined = zip(reversed(most), below, strict=True)
        self.joins = nn.ModuleList(Join(width, under, spec.side) for width, under in joined)
        self.wide = Rectified(spec.side, spec.side, 3, DILATION)
        self.narrow = Rectified(spec.side, spec.side, 3)
        self.last = nn.Conv2d(spec.side, spec.maps, 1)

    def forward(self, x: Float[Tensor, "b 4 h w"]) -> Float[Tensor, "b maps i j"]:
        """x: RGB and ones, scaled as `seen` in vision/annotators/mlsd.py says; its sides multiples of 16. Channel 0 is
        the centre; 1 and 2 lead from it to one end, across and down, 3 and 4 to the other, in pixels of the maps."""
        *most, x = self.trunk(x)
        for given, join in zip(reversed(most), self.joins, strict=True):
            x = join(given, x)
        return self.last(self.narrow(self.wide(x)))[:, CENTRE:]


def _stage(spec: LineSegmentsSpec, stage: int) -> list[Block]:
    channels, width = (spec.first, *spec.widths)[stage], spec.widths[stage]
    expansion = spec.expansion if stage else 1
    inputs = (channels, *[width] * (spec.depths[stage] - 1))
    return [Block(each, width, STRIDES[stage] if n == 0 else 1, expansion) for n, each in enumerate(inputs)]
