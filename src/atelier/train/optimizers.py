"""Optimizers of the recipes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from atelier.train.recipe import Optim


def adamw(nets: Iterable[nn.Module], optim: Optim, rate: float | None = None) -> torch.optim.AdamW:
    """AdamW with decay on matrices and kernels only; each group remembers its full rate for the pace."""
    parameters = [p for net in nets for p in net.parameters() if p.requires_grad]
    full = optim.rate if rate is None else rate
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": optim.weight_decay, "full_rate": full},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0, "full_rate": full},
    ]
    return torch.optim.AdamW(groups, lr=full, betas=optim.betas, eps=optim.eps, fused=True)


def clipped(nets: Iterable[nn.Module], limit: float) -> torch.Tensor:
    """Scales all gradients together to a norm of at most `limit`; returns the norm before."""
    return nn.utils.clip_grad_norm_([p for net in nets for p in net.parameters()], limit)
