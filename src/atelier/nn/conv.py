"""Convolutional blocks shared by the autoencoder and the U-Net."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.nn.norm import GroupNorm
from atelier.nn.seamless import EDGES, Conv, Seamless, padded
from atelier.nn.tokens import to_map, to_tokens

M = TypeVar("M", bound=nn.Module)


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution, run as one matrix product over the positions, which is faster where tokens are wanted.

    From outside it is a convolution, maps in and out, so that whatever adapts convolutions adapts this one.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:  # noqa: A002 - torch's own name
        tokens = F.linear(to_tokens(input), self.weight.flatten(1), self.bias)
        return to_map(tokens, (input.shape[-2], input.shape[-1]))


class ResBlock(nn.Module):
    """Two normed 3x3 convolutions with a residual; the time embedding, if any, is added between them."""

    def __init__(self, inputs: int, outputs: int, *, groups: int, eps: float, time: int | None = None) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, inputs, eps=eps)
        self.conv1 = Conv(inputs, outputs, 3, padding=1)
        self.time_proj = None if time is None else nn.Linear(time, outputs)
        self.norm2 = GroupNorm(groups, outputs, eps=eps)
        self.conv2 = Conv(outputs, outputs, 3, padding=1)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], time: Float[Tensor, "b e"] | None = None, seamless: Seamless = EDGES
    ) -> Tensor:
        """time: the embedding after its activation."""
        hidden = self.conv1(F.silu(self.norm1(x)), seamless=seamless)
        if self.time_proj is not None and time is not None:
            hidden = hidden + self.time_proj(time)[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden)), seamless=seamless)
        return (x if self.shortcut is None else self.shortcut(x)) + hidden


class Downsample(nn.Module):
    """3x3 convolution of stride 2. The autoencoder pads on the right and bottom only, the U-Net all around."""

    def __init__(self, width: int, *, asymmetric: bool) -> None:
        super().__init__()
        self.asymmetric = asymmetric
        self.conv = Conv(width, width, 3, stride=2, padding=0 if asymmetric else 1)

    def forward(self, x: Float[Tensor, "b c h w"], seamless: Seamless = EDGES) -> Tensor:
        return self.conv(padded(x, (0, 1), seamless)) if self.asymmetric else self.conv(x, seamless=seamless)


class Upsample(nn.Module):
    """Nearest-neighbour upsampling to `size` (twice the input when None), then a 3x3 convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = Conv(width, width, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], size: tuple[int, int] | None = None, seamless: Seamless = EDGES
    ) -> Tensor:
        if size is None:
            size = (2 * x.shape[-2], 2 * x.shape[-1])
        return self.conv(F.interpolate(x, size=size, mode="nearest"), seamless=seamless)

    def in_phases(self, x: Float[Tensor, "b c h w"], seamless: Seamless = EDGES) -> Float[Tensor, "b c H W"]:
        """The same at twice the size but for rounding, with 4/9 of the work.

        Each of the four positions that one becomes sees 2 x 2 different ones, some of them several times, so the
        kernel's rows and columns that see the same are added first (Shi et al. 2016, arXiv:1609.05158, section 2).
        """
        around, (height, width) = padded(x, (1, 1), seamless), x.shape[2:]
        made = x.new_empty(len(x), self.conv.out_channels, 2 * height, 2 * width)
        made = made.to(memory_format=torch.channels_last)
        for down in (0, 1):
            for across in (0, 1):
                seen = around[:, :, down : down + height + 1, across : across + width + 1]
                kernel = _folded(_folded(self.conv.weight, 2, down), 3, across)
                made[:, :, down::2, across::2] = F.conv2d(seen, kernel, self.conv.bias)
        return made


def _folded(kernel: Tensor, dim: int, phase: int) -> Tensor:
    """Three rows or columns as two: the first position of a pair sees itself twice, the second one so, too."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack([first, middle + last] if phase == 0 else [first + middle, last], dim)


def channels_last(net: M) -> M:
    """The same network with its kernels channel last in memory, which convolutions of the CPU and of CUDA prefer."""
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return net
