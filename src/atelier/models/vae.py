"""The KL autoencoder between images and latents (Rombach 2022, section 3.1; CompVis' AutoencoderKL)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.nn.attention import SingleHeadAttention
from atelier.nn.conv import Downsample, ResBlock, Upsample
from atelier.nn.norm import GroupNorm
from atelier.nn.seamless import EDGES, Conv, Seamless

EPS = 1e-6


@dataclass(frozen=True, slots=True)
class VaeSpec:
    """Everything that shapes an autoencoder. The defaults are Stable Diffusion 1.x (factor 8, 4 channels)."""

    in_channels: int = 3
    out_channels: int = 3
    latent: int = 4
    widths: tuple[int, ...] = (128, 256, 512, 512)
    blocks: int = 2
    groups: int = 32
    quant_conv: bool = True
    mid_attention: bool = True

    @property
    def factor(self) -> int:
        """Pixels per latent position along one side."""
        return 2 ** (len(self.widths) - 1)

    def resnet(self, inputs: int, outputs: int) -> ResBlock:
        """A residual block without time."""
        return ResBlock(inputs, outputs, groups=self.groups, eps=EPS)


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Diagonal Gaussian over latents; mean and logvar: (B, C, h, w)."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        """The most probable latent, (B, C, h, w)."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """noise: unit normal of the shape of the mean."""
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Tensor:
        """KL divergence to the unit Gaussian, summed over each latent: (B,)."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).flatten(1).sum(1)


class EncoderLevel(nn.Module):
    """Residual blocks, and half the resolution at their end, but for the last level."""

    def __init__(self, spec: VaeSpec, level: int) -> None:
        super().__init__()
        width, first = spec.widths[level], spec.widths[max(level - 1, 0)]
        self.resnets = nn.ModuleList(spec.resnet(first if j == 0 else width, width) for j in range(spec.blocks))
        last = level == len(spec.widths) - 1
        self.downsample = None if last else Downsample(width, asymmetric=True)

    def forward(self, x: Tensor, seamless: Seamless = EDGES) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x, seamless=seamless)
        return x if self.downsample is None else self.downsample(x, seamless)


class DecoderLevel(nn.Module):
    """Level `index` of the decoder, in order of execution."""

    def __init__(self, spec: VaeSpec, index: int) -> None:
        super().__init__()
        level = len(spec.widths) - 1 - index
        width, first = spec.widths[level], spec.widths[min(level + 1, len(spec.widths) - 1)]
        self.resnets = nn.ModuleList(spec.resnet(first if j == 0 else width, width) for j in range(spec.blocks + 1))
        self.upsample = None if level == 0 else Upsample(width)

    def forward(self, x: Tensor, seamless: Seamless = EDGES) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x, seamless=seamless)
        return x if self.upsample is None else self.upsample(x, seamless=seamless)


class Middle(nn.Module):
    """The lowest resolution: residual block, attention if there is any, residual block."""

    def __init__(self, spec: VaeSpec) -> None:
        super().__init__()
        width = spec.widths[-1]
        self.resnet1 = spec.resnet(width, width)
        self.attention = SingleHeadAttention(width, spec.groups) if spec.mid_attention else None
        self.resnet2 = spec.resnet(width, width)

    def forward(self, x: Tensor, seamless: Seamless = EDGES) -> Tensor:
        x = self.resnet1(x, seamless=seamless)
        return self.resnet2(x if self.attention is None else self.attention(x), seamless=seamless)


class Encoder(nn.Module):
    """(B, 3, H, W) to the means and log variances of the latents, (B, 2 C, H / factor, W / factor)."""

    def __init__(self, spec: VaeSpec) -> None:
        super().__init__()
        self.conv_in = Conv(spec.in_channels, spec.widths[0], 3, padding=1)
        self.down = nn.ModuleList(EncoderLevel(spec, i) for i in range(len(spec.widths)))
        self.middle = Middle(spec)
        self.norm_out = GroupNorm(spec.groups, spec.widths[-1], eps=EPS)
        self.conv_out = Conv(spec.widths[-1], 2 * spec.latent, 3, padding=1)

    def forward(self, x: Tensor, seamless: Seamless = EDGES) -> Tensor:
        x = self.conv_in(x, seamless=seamless)
        for level in self.down:
            x = level(x, seamless)
        return self.finished(x, seamless)

    def finished(self, x: Tensor, seamless: Seamless = EDGES) -> Tensor:
        """What is done at the lowest resolution, with what the levels made."""
        return self.conv_out(F.silu(self.norm_out(self.middle(x, seamless))), seamless=seamless)


class Decoder(nn.Module):
    """(B, C, h, w) to (B, 3, h * factor, w * factor)."""

    def __init__(self, spec: VaeSpec) -> None:
        super().__init__()
        self.conv_in = Conv(spec.latent, spec.widths[-1], 3, padding=1)
        self.middle = Middle(spec)
        self.up = nn.ModuleList(DecoderLevel(spec, i) for i in range(len(spec.widths)))
        self.norm_out = GroupNorm(spec.groups, spec.widths[0], eps=EPS)
        self.conv_out = Conv(spec.widths[0], spec.out_channels, 3, padding=1)

    def forward(self, x: Tensor, seamless: Seamless = EDGES) -> Tensor:
        x = self.middle(self.conv_in(x, seamless=seamless), seamless)
        for level in self.up:
            x = level(x, seamless)
        return self.conv_out(F.silu(self.norm_out(x)), seamless=seamless)


class AutoencoderKL(nn.Module):
    """Images in [-1, 1] to a Gaussian over latents and back. The latent scale is not applied here."""

    def __init__(self, spec: VaeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(spec)
        self.decoder = Decoder(spec)
        self.quant_conv = nn.Conv2d(2 * spec.latent, 2 * spec.latent, 1) if spec.quant_conv else None
        self.post_quant_conv = nn.Conv2d(spec.latent, spec.latent, 1) if spec.quant_conv else None

    def encode(self, image: Float[Tensor, "b 3 H W"], seamless: Seamless = EDGES) -> Gaussian:
        """image: values in [-1, 1], sides divisible by the factor; seamless: where its opposite edges meet."""
        return self.gaussian(self.encoder(image, seamless))

    def gaussian(self, encoded: Tensor) -> Gaussian:
        """What the encoder's output (B, 2 C, h, w) says."""
        moments = encoded if self.quant_conv is None else self.quant_conv(encoded)
        mean, logvar = moments.chunk(2, dim=1)
        return Gaussian(mean, logvar.clamp(-30.0, 20.0))

    def decode(self, latent: Float[Tensor, "b c h w"], seamless: Seamless = EDGES) -> Float[Tensor, "b 3 H W"]:
        """The image in about [-1, 1], not clamped; seamless: where its opposite edges meet."""
        return self.decoder(latent if self.post_quant_conv is None else self.post_quant_conv(latent), seamless)
