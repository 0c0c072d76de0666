"""Between the data's uint8 pictures and the networks' tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atelier.train.data.dataset import Dataset, open_dataset
from atelier.train.data.scenes import Split
from atelier.train.randomness import permutation
from atelier.train.recipe import Data


def dataset(data: Data, split: Split) -> Dataset:
    """The recipe's pictures; validation scenes come from another seed than training scenes."""
    folder = None if data.source == "emoji" else Path(data.source)
    return open_dataset(folder, seed=data.seed + (split == "held_out"), split=split, size=data.size)


def to_image(pixels: NDArray[np.uint8], device: torch.device | None = None) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1], channels last in memory."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pixels(image: Tensor) -> NDArray[np.uint8]:
    """The inverse of `to_image`, clamped and rounded."""
    scaled = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


@dataclass(frozen=True, slots=True)
class Order:
    """Which pictures a step sees. Endless data comes in its own order; finite data is shuffled anew every epoch."""

    length: int | None
    batch: int
    seed: int

    def indices(self, step: int) -> list[int]:
        first = step * self.batch
        numbers = range(first, first + self.batch)
        if self.length is None:
            return list(numbers)
        epochs = {n // self.length for n in numbers}
        shuffled = {epoch: permutation(self.length, self.seed, "order", epoch) for epoch in epochs}
        return [int(shuffled[n // self.length][n % self.length]) for n in numbers]


def stack(data: Dataset, indices: Sequence[int]) -> NDArray[np.uint8]:
    return np.stack([data.image(i) for i in indices])


def psnr(one: Tensor, other: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB; values in [-1, 1], range 2: (B,)."""
    error = ((one.clamp(-1, 1) - other.clamp(-1, 1)) / 2).square().flatten(1).mean(1)
    return -10 * error.clamp_min(1e-12).log10()
