"""Embeddings of what a network is told beside the text: timesteps, the strength of guidance, a vector."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConditionEmbedding(nn.Module):
    """Two linear layers over the sinusoids of the timestep, or over a vector condition."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(inputs, width)
        self.linear2 = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b c"]) -> Float[Tensor, "b e"]:
        return self.linear2(F.silu(self.linear1(x)))


def timestep_embedding(t: Float[Tensor, " b"], width: int, max_period: float = 10_000.0) -> Float[Tensor, "b width"]:
    """Cosines first, then sines, of t at `width`/2 geometric frequencies (Vaswani 2017; DDPM's U-Net).

    Computed in float32 whatever the network's dtype, since 999 does not survive in bfloat16.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(max_period) / half))
    angles = t.float()[:, None] * rates[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def guidance_embedding(w: Float[Tensor, " b"], width: int, max_period: float = 10_000.0) -> Float[Tensor, "b width"]:
    """Sines first, then cosines, of 1000 w at `width`/2 geometric frequencies, the last of which is 1 / max_period.

    w: the CFG scale less 1 (Meng 2022, arXiv:2210.03142; as in diffusers' latent consistency models). float32.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32, device=w.device) * (-math.log(max_period) / (half - 1)))
    angles = 1000 * w.float()[:, None] * rates[None]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
