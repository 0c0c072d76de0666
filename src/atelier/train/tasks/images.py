"""Between the data's uint8 images and the networks' tensors."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_pixels(images: NDArray[np.uint8], device: torch.device | None = None) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: Tensor) -> NDArray[np.uint8]:
    """The inverse of `to_pixels`, clamped and rounded."""
    scaled = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def psnr(one: Tensor, other: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB; values in [-1, 1], range 2: (B,)."""
    error = ((one.clamp(-1, 1) - other.clamp(-1, 1)) / 2).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-12).log10()
