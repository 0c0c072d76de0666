"""The tiny autoencoders of Ollin Boer Bohan (TAESD, TAESDXL, TAESD3): a model's latents to images and back, roughly, in
a fraction of the time. They know latents as the denoising network does, and images from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.models.vae import Gaussian
from atelier.nn.seamless import EDGES, Conv, Seamless

BOUND = 3.0
"""Latents are bent to stay within this."""
CERTAIN = -30.0
"""The log variance of a latent that has none."""


@dataclass(frozen=True, slots=True)
class TinySpec:
    """Everything that shapes a tiny autoencoder. The defaults are TAESD's and TAESDXL's; TAESD3 has 16 channels.

    blocks: residual blocks at each size, from that of the image to that of the latent.
    """

    latent: int = 4
    width: int = 64
    blocks: tuple[int, ...] = (1, 3, 3, 3)


class Block(nn.Module):
    """Three convolutions with a residual, and ReLU behind each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (Conv(width, width, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor, seamless: Seamless = EDGES) -> Tensor:
        inner = F.relu(self.conv1(x, seamless=seamless))
        inner = F.relu(self.conv2(inner, seamless=seamless))
        return F.relu(x + self.conv3(inner, seamless=seamless))


class EncoderLevel(nn.Module):
    """Half the size, but on the first level, and blocks."""

    def __init__(self, spec: TinySpec, level: int) -> None:
        super().__init__()
        self.downsample = Conv(spec.width, spec.width, 3, padding=1, stride=2, bias=False) if level else None
        self.blocks = nn.ModuleList(Block(spec.width) for _ in range(spec.blocks[level]))

    def forward(self, x: Tensor, seamless: Seamless = EDGES) -> Tensor:
        if self.downsample is not None:
            x = self.downsample(x, seamless=seamless)
        for block in self.blocks:
            x = block(x, seamless)
        return x


class DecoderLevel(nn.Module):
    """Blocks, and twice the size, but on the last level."""

    def __init__(self, spec: TinySpec, level: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(spec.width) for _ in range(spec.blocks[level]))
        self.upsample = Conv(spec.width, spec.width, 3, padding=1, bias=False) if level else None

    def forward(self, x: Tensor, seamless: Seamless = EDGES) -> Tensor:
        for block in self.blocks:
            x = block(x, seamless)
        if self.upsample is None:
            return x
        return self.upsample(F.interpolate(x, scale_factor=2.0), seamless=seamless)


class TinyEncoder(nn.Module):
    """(B, 3, H, W) in [0, 1] to latents (B, C, h, w)."""

    def __init__(self, spec: TinySpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv_in = Conv(3, spec.width, 3, padding=1)
        self.levels = nn.ModuleList(EncoderLevel(spec, level) for level in range(len(spec.blocks)))
        self.conv_out = Conv(spec.width, spec.latent, 3, padding=1)

    def forward(self, x: Float[Tensor, "b 3 H W"], seamless: Seamless = EDGES) -> Float[Tensor, "b c h w"]:
        x = self.conv_in(x, seamless=seamless)
        for level in self.levels:
            x = level(x, seamless)
        return self.conv_out(x, seamless=seamless)


class TinyDecoder(nn.Module):
    """Latents (B, C, h, w) to (B, 3, H, W), about 0 to 1."""

    def __init__(self, spec: TinySpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv_in = Conv(spec.latent, spec.width, 3, padding=1)
        self.levels = nn.ModuleList(DecoderLevel(spec, level) for level in reversed(range(len(spec.blocks))))
        self.conv_out = Conv(spec.width, 3, 3, padding=1)

    def forward(self, latent: Float[Tensor, "b c h w"], seamless: Seamless = EDGES) -> Float[Tensor, "b 3 H W"]:
        x = F.relu(self.conv_in(torch.tanh(latent / BOUND) * BOUND, seamless=seamless))
        for level in self.levels:
            x = level(x, seamless)
        return self.conv_out(x, seamless=seamless)


class TinyAutoencoder(nn.Module):
    """Both, or the decoder alone, with the face of `AutoencoderKL`: images in [-1, 1]. Its latents are those of the
    denoising network, so that no scale is applied around it."""

    def __init__(self, decoder: TinyDecoder, encoder: TinyEncoder | None = None) -> None:
        super().__init__()
        self.decoder, self.encoder = decoder, encoder

    def encode(self, image: Float[Tensor, "b 3 H W"], seamless: Seamless = EDGES) -> Gaussian:
        """image: values in [-1, 1], sides divisible by 8. Raises ValueError where there is no encoder."""
        if self.encoder is None:
            raise ValueError("this tiny autoencoder has no encoder")
        mean = self.encoder(image / 2 + 0.5, seamless)
        return Gaussian(mean, torch.full_like(mean, CERTAIN))

    def decode(self, latent: Float[Tensor, "b c h w"], seamless: Seamless = EDGES) -> Float[Tensor, "b 3 H W"]:
        """The image in about [-1, 1], not clamped."""
        return self.decoder(latent, seamless) * 2 - 1
