"""What the optimizers that we wrote ourselves have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class OwnOptimizer(Optimizer, ABC):
    """Moves one parameter after the other, by its gradient and what is remembered of it in `state`."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - only closures have a loss
        if closure is not None:
            raise TypeError(f"{type(self).__name__} takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    @abstractmethod
    def _move(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        """One step of a parameter, in place. group: its options."""
        ...
