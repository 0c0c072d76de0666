"""Surface normals with their uncertainty (Bae 2021, arXiv:2109.09881): an EfficientNet-B5 (Tan 2019, arXiv:1905.11946)
up to a 32nd of the resolution, a decoder up to the half, and a refinement of each pixel from an eighth to the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.nn.batch_norm import FixedNorm

EPS = 1e-3
"""Of the encoder's norms, as in TensorFlow."""
STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Of the first block of each stage; the layer before them halves as well."""
SKIPS = (0, 1, 2, 4)
"""The stages that the decoder sees again, beside the head."""
SQUEEZE = 4
"""Channels that go into a block, for each of those that its attention to channels is made in."""
OUT = 4
"""A normal and how sure it is."""
LEAST_KAPPA = 1.01


@dataclass(frozen=True, slots=True)
class SurfaceNormalsSpec:
    """first: channels of the first layer; widths, depths, kernels: of the seven stages; expansion: of a block's
    channels, in all stages but the first; head: of the encoder's end; bottom, decoded: of the decoder, from an eighth
    of the encoder's resolution up; hidden: of the refinement."""

    first: int = 48
    widths: tuple[int, ...] = (24, 40, 64, 128, 176, 304, 512)
    depths: tuple[int, ...] = (3, 5, 5, 7, 7, 9, 3)
    kernels: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    expansion: int = 6
    head: int = 2048
    bottom: int = 2048
    decoded: tuple[int, ...] = (1024, 512, 256, 128)
    hidden: int = 128


class Conv(nn.Module):
    """A convolution without bias and a norm. With a stride of 2 the odd zero lies to the right and below."""

    def __init__(self, channels: int, width: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        total = kernel - stride
        self.padding = (total // 2, total - total // 2) * 2
        self.conv = nn.Conv2d(channels, width, kernel, stride, groups=groups, bias=False)
        self.norm = FixedNorm(width, EPS)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return self.norm(self.conv(F.pad(x, self.padding)))


class Attention(nn.Module):
    """Channels weighed by what the whole map holds (Hu 2018, arXiv:1709.01507)."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1)
        self.expand = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return x * self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


class Block(nn.Module):
    """More channels, each seen alone and weighed, fewer channels; and what went in, where it has the same shape."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = Conv(channels, inner) if expansion > 1 else None
        self.see = Conv(inner, inner, kernel, stride, groups=inner)
        self.weigh = Attention(inner, max(1, channels // SQUEEZE))
        self.project = Conv(inner, width)
        self.adds = stride == 1 and channels == width

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        inner = x if self.expand is None else F.silu(self.expand(x))
        made = self.project(self.weigh(F.silu(self.see(inner))))
        return x + made if self.adds else made


class Encoder(nn.Module):
    def __init__(self, spec: SurfaceNormalsSpec) -> None:
        super().__init__()
        self.first = Conv(3, spec.first, 3, stride=2)
        self.stages = nn.ModuleList(nn.ModuleList(_stage(spec, n)) for n in range(len(spec.widths)))
        self.head = nn.Conv2d(spec.widths[-1], spec.head, 1, bias=False)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[list[Tensor], Tensor]:
        """(what each stage gives, what the head makes of the last)."""
        x, made = F.silu(self.first(x)), list[Tensor]()
        for stage in self.stages:
            for block in stage if isinstance(stage, nn.ModuleList) else ():
                x = block(x)
            made.append(x)
        return made, self.head(x)


class Up(nn.Module):
    """To the resolution of what the encoder gave, beside that, through two convolutions."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.norm1 = FixedNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = FixedNorm(width)

    def forward(self, x: Float[Tensor, "b c i j"], given: Float[Tensor, "b d h w"]) -> Tensor:
        x = torch.cat((_enlarged(x, given.shape[-2:]), given), 1)
        x = F.leaky_relu(self.norm1(self.conv1(x)))
        return F.leaky_relu(self.norm2(self.conv2(x)))


class Refine(nn.Module):
    """Each pixel's normal anew, of what was decoded there and of what was said at half the resolution."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        widths = (channels + OUT, hidden, hidden, hidden, OUT)
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 1) for a, b in pairwise(widths))

    def forward(self, features: Float[Tensor, "b c i j"], said: Float[Tensor, "b 4 i j"]) -> Tensor:
        height, width = 2 * said.shape[-2], 2 * said.shape[-1]
        x = torch.cat([_enlarged(each, (height, width)) for each in (features, said)], 1).flatten(2)
        *most, last = self.layers
        for layer in most:
            x = layer(x).relu()
        return _unit(last(x).unflatten(2, (height, width)))


class SurfaceNormals(nn.Module):
    """Normals of what an image shows."""

    def __init__(self, spec: SurfaceNormalsSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(spec)
        self.bottom = nn.Conv2d(spec.head, spec.bottom, 1)
        self.ups = nn.ModuleList(_ups(spec))
        self.coarse = nn.Conv2d(spec.decoded[1], OUT, 3, padding=1)
        self.refine = nn.ModuleList(Refine(width, spec.hidden) for width in spec.decoded[1:])

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """x: RGB as ImageNet's networks see it; its sides multiples of 32. The parts of each normal, -1 to 1."""
        given, x = self.encoder(x)
        x, decoded = self.bottom(x), list[Tensor]()
        for stage, up in zip(reversed(SKIPS), self.ups, strict=True):
            x = up(x, given[stage])
            decoded.append(x)
        said = _unit(self.coarse(decoded[1]))
        for features, refine in zip(decoded[1:], self.refine, strict=True):
            said = refine(features, said)
        return said[:, :3]


def _enlarged(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def _unit(said: Float[Tensor, "b 4 h w"]) -> Tensor:
    """The normal with a length of 1, and its concentration made positive (Bae 2021, section 3.1)."""
    normal, kappa = said[:, :3], said[:, 3:]
    length = normal.square().sum(1, keepdim=True).sqrt() + 1e-10
    return torch.cat((normal / length, F.elu(kappa) + LEAST_KAPPA), 1)


def _stage(spec: SurfaceNormalsSpec, stage: int) -> list[Block]:
    channels, width = (spec.first, *spec.widths)[stage], spec.widths[stage]
    expansion, kernel = spec.expansion if stage else 1, spec.kernels[stage]
    inputs = (channels, *[width] * (spec.depths[stage] - 1))
    return [Block(each, width, kernel, STRIDES[stage] if n == 0 else 1, expansion) for n, each in enumerate(inputs)]


def _ups(spec: SurfaceNormalsSpec) -> Iterator[Up]:
    below = (spec.bottom, *spec.decoded)
    for under, stage, width in zip(below, reversed(SKIPS), spec.decoded, strict=False):
        yield Up(under + spec.widths[stage], width)
