"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Blend = Callable[[list[Tensor], list[Tensor], None], None]


class Ema:
    """Keeps `average`, the moving average of the parameters that a network learns, by name, with the usual warm-up of
    the decay.

    The decay at update n is min(decay, (1 + n) / (10 + n)), as in CompVis' LitEma. At a decay of 0 the average is the
    parameters themselves, and no copy is kept.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        learned = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
        self.average = {name: p.clone() for name, p in learned.items()} if decay else learned

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Moves towards the network's present weights; `step` counts from 0."""
        if not self.decay:
            return
        named = dict(net.named_parameters())
        average: list[Tensor] = list(self.average.values())
        current: list[Tensor] = [named[name].detach() for name in self.average]
        blend = cast("Blend", get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step))))
        blend(average, current, None)
