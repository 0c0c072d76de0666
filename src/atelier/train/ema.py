"""Exponential moving average of weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Ema:
    """Keeps `average`, the moving average of a network's parameters, with the usual warm-up of the decay.

    The decay at update n is min(decay, (1 + n) / (10 + n)), as in CompVis' LitEma.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: p.detach().clone() for name, p in net.named_parameters()}

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        named = dict(net.named_parameters())
        average: list[Tensor] = list(self.average.values())
        current: list[Tensor] = [named[name].detach() for name in self.average]
        torch._foreach_lerp_(average, current, 1.0 - decay)
