"""What the rest of the program takes a denoising network for."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from atelier.nn.ports import NOTHING, Conditioning, Ports


class Net(Protocol):
    """A module, a compiled graph, another engine's network, or a meeting point that batches several requests."""

    @property
    def device(self) -> torch.device:
        """Where inputs must be."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What x and the tokens must be."""
        ...

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
        """x: (B, C, h, w) scaled noised latents; t: (B,) levels as the network reads them.

        Returns (B, O, h, w), the training target as predicted. Keeps nothing of its inputs.
        """
        ...
