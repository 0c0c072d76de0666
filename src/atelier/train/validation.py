"""The loss of latents that are never trained, at the same noise and times always, so that runs can be compared."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atelier.train import randomness

Losses = Callable[[slice, Tensor, Tensor], Tensor]
"""Rows of the latents, their noise (n, C, h, w), their times (n,) -> the loss of each (n,)."""


@torch.no_grad()
def fixed_loss(losses: Losses, latents: Tensor, levels: int, batch: int) -> float:
    """The mean loss of the latents (B, C, h, w), computed `batch` of them at once.

    Their noise is a function of nothing but their shape; their times, int64, stand evenly over a table of so many
    levels. What the network is told beside, the caller takes by rows.
    """
    noise = randomness.normal(latents.shape, "validation", "noise").to(latents.device)
    t = ((torch.arange(len(latents), device=latents.device) + 0.5) / len(latents) * levels).long()
    chunks = [slice(first, first + batch) for first in range(0, len(latents), batch)]
    return float(torch.cat([losses(rows, noise[rows], t[rows]) for rows in chunks]).mean())
