"""Inpainting models: the denoiser also sees which part is to be made anew, and the rest of the image.

Beside the latent come the mask, 1 where the image is made anew, and the latent of the image with that part grey: 9
channels for latents of 4 (the published inpainting models of Stable Diffusion; docs/models.md).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadInput
from atelier.models.unet import UNet
from atelier.train.randomness import uniform
from atelier.train.teaching.base import Base
from atelier.weights.load import load_into

INPUT = "conv_in.weight"
"""The first kernels of a U-Net, by our names."""
WHOLE = 0.25
"""The share of steps' images that are made anew as a whole, as in the training of the published models."""
LEAST, MOST = 0.2, 0.8
"""Sides of the other holes, as shares of the image's."""


def sees_holes(base: Base) -> bool:
    """Whether the denoiser is an inpainting model's. Raises BadInput for one that sees something else beside the
    latent."""
    inputs, latent = base.net_channels, base.checkpoint.latent.channels
    if inputs == latent:
        return False
    if inputs == wide_channels(base.checkpoint):
        return True
    raise BadInput(
        f"{base.checkpoint.name}: its denoiser sees {inputs - latent} channels beside the latent, of which training "
        "images say nothing: give a model that sees the latent alone, or an inpainting model"
    )


def widened(base: Base) -> Base:
    """The base as the beginning of an inpainting model: the new channels have no effect yet. One that is an inpainting
    model stays as it is. Raises BadInput for a denoiser that is no U-Net."""
    if sees_holes(base):
        return base
    if not isinstance(base.net, UNet):
        raise BadInput(f"{base.checkpoint.name}: only U-Nets can be made inpainting models")
    spec, state = replace(base.net.spec, in_channels=wide_channels(base.checkpoint)), base.net.state_dict()
    net = load_into(lambda: UNet(spec), {**state, INPUT: with_channels(state[INPUT], spec.in_channels)})
    return replace(base, net=net.to(base.device).eval().requires_grad_(requires_grad=False))


def wide_channels(model: Checkpoint) -> int:
    """Of the input of an inpainting model of this kind: the latent, the mask, the rest of the image."""
    return 2 * model.latent.channels + 1


def with_channels(weight: Tensor, channels: int) -> Tensor:
    """The first kernels (C, K, 3, 3) with so many input channels, of which the new ones have no effect."""
    if weight.shape[1] == channels:
        return weight
    wide = weight.new_zeros(len(weight), channels, *weight.shape[2:])
    wide[:, : weight.shape[1]] = weight
    return wide


def holes(count: int, height: int, width: int, seed: int, step: int) -> Tensor:
    """What is made anew of so many images, 1 there and 0 elsewhere: (count, 1, height, width): all of it, or a
    rectangle somewhere."""
    draws = uniform((count, 5), seed, "holes", step)
    return torch.stack([_hole(height, width, *map(float, row)) for row in draws])


def _hole(height: int, width: int, whole: float, tall: float, wide: float, top: float, left: float) -> Tensor:
    """(1, height, width) by five numbers of [0, 1)."""
    if whole < WHOLE:
        return torch.ones(1, height, width)
    down, across = _side(height, tall), _side(width, wide)
    y, x = int(top * (height - down + 1)), int(left * (width - across + 1))
    made = torch.zeros(1, height, width)
    made[:, y : y + down, x : x + across] = 1.0
    return made


def _side(side: int, share: float) -> int:
    return max(1, round(side * (LEAST + (MOST - LEAST) * share)))


@torch.no_grad()
def beside(base: Base, pixels: Tensor, hole: Tensor) -> Tensor:
    """What is seen beside the latent: the hole (B, 1, H, W) at the corner of each position, then the latent of pixels
    (B, 3, H, W) in [-1, 1] with grey in the hole: (B, 1 + C, h, w)."""
    latent, _ = base.posterior(pixels * (1 - hole))
    return torch.cat([F.interpolate(hole, (latent.shape[-2], latent.shape[-1])), latent], dim=1)


def all_new(base: Base, count: int, side: int) -> Tensor | None:
    """What an inpainting model sees beside `count` latents where the whole image is made anew; None for others."""
    if not sees_holes(base):
        return None
    grey = torch.zeros(1, 3, side, side, device=base.device)
    return beside(base, grey, torch.ones_like(grey[:, :1])).expand(count, -1, -1, -1)
