"""Batch normalization as it is after training (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class FixedNorm(nn.Module):
    """By a mean and a variance of each channel that were found in training; none of it changes here."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.mean = nn.Parameter(torch.empty(channels))
        self.variance = nn.Parameter(torch.empty(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=self.eps)
