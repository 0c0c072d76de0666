"""Lion: steps of one size, whose signs are all that momentum and gradient decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from atelier.train.own_optimizer import OwnOptimizer


class Lion(OwnOptimizer):
    """Chen 2023 (arXiv:2302.06675), algorithm 2; its rate is a third to a tenth of AdamW's. Decay is decoupled."""

    def __init__(self, groups: Iterable[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, {"betas": betas})

    def _move(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        now, later = group["betas"]
        direction = momentum.lerp(gradient, 1 - now).sign_()
        momentum.lerp_(gradient, 1 - later)
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(direction, alpha=-group["lr"])
