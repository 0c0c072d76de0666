"""What is left out of a weight adapter while it is trained, so that no part of it is all that counts.

The three ways are those of kohya's scripts (network_dropout, rank_dropout, module_dropout), whose formulas these are.
All randomness is a function of the seed, the step, the layer and the image: it is the same after a break, when a layer
is computed again for the backward pass, and however many parts and processes a step is divided into.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.train import randomness


@dataclass(frozen=True, slots=True)
class Draw:
    """Which numbers are drawn: of a step, for some images of its whole batch, by their places in it."""

    seed: int
    step: int
    images: range


@dataclass(frozen=True, slots=True)
class Dropout:
    """hidden: share of the numbers between LoRA's two matrices that are 0; rank: share of the ranks that are 0, for
    each image; module: share of the layers whose adapter does nothing in a step. Each from 0 to below 1."""

    hidden: float = 0.0
    rank: float = 0.0
    module: float = 0.0

    def drawn(self, draw: Draw) -> Dropped | None:
        """What is left out of a step; None where nothing ever is."""
        return Dropped(self, draw) if self.hidden or self.rank or self.module else None


NO_DROPOUT = Dropout()


@dataclass(frozen=True, slots=True)
class Dropped:
    """What is left out of one step."""

    dropout: Dropout
    draw: Draw

    def whole(self, layer: str, /) -> bool:
        """Whether the adapter of a layer does nothing."""
        seed, step = self.draw.seed, self.draw.step
        return bool(randomness.uniform((1,), seed, "module dropout", step, layer) < self.dropout.module)

    def hidden(self, layer: str, hidden: Tensor, /) -> Tensor:
        """hidden (B, …, r) or (B, r, h, w), B divisible by the number of images, with parts of it 0 and the rest so
        much larger."""
        if not (self.dropout.hidden or self.dropout.rank):
            return hidden
        each = (len(hidden) // len(self.draw.images), *hidden.shape[1:])
        masks = [self._mask(layer, image, each) for image in self.draw.images]
        return hidden * torch.cat(masks).to(hidden)

    def _mask(self, layer: str, image: int, shape: tuple[int, ...]) -> Tensor:
        """Of the rows of one image: 0, or 1 over the share that stays."""
        key = (self.draw.seed, "dropout", self.draw.step, layer, image)
        mask = _kept(shape, self.dropout.hidden, *key)
        if self.dropout.rank:
            ranks, is_map = (shape[0], shape[1] if len(shape) == 4 else shape[-1]), len(shape) == 4
            kept = _kept(ranks, self.dropout.rank, *key, "rank")
            mask = mask * kept.view(shape[0], *((-1, 1, 1) if is_map else (*(1,) * (len(shape) - 2), -1)))
        return mask


def _kept(shape: tuple[int, ...], rate: float, *key: int | str) -> Tensor:
    if not rate:
        return torch.ones(shape)
    return (randomness.uniform(shape, *key) >= rate) / (1 - rate)
