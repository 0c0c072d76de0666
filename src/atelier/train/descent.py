"""One optimizer step over the images of a batch: in parts, one after another, and on several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.optim import Optimizer

from atelier.train.optimizers import clipped
from atelier.train.world import ALONE, World


@dataclass(frozen=True, slots=True)
class Descent:
    """How a task takes its steps. limit: bound of the norm of all gradients together; parts: see run.accumulate."""

    optimizers: Mapping[str, Optimizer]
    limit: float
    parts: int = 1
    world: World = ALONE

    def step(self, count: int, losses: Callable[[slice], AbstractContextManager[Tensor]]) -> dict[str, Tensor]:
        """One step down the mean loss over all processes; returns it, and the norm of its gradients before the bound.

        count: images of this process; losses: the loss of each of some of them, (n,), with gradients, which are
        computed inside. What is computed is the same however many parts and processes there are, but for rounding.
        """
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for rows in slices(count, self.parts):
            with losses(rows) as each:
                loss = each.sum() / (count * self.world.size)
                loss.backward()
            total = total.to(loss.device) + loss.detach()
        parameters = list(self._parameters())
        self.world.add([p.grad for p in parameters if p.grad is not None] + [total])
        norm = clipped(parameters, self.limit)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return {"loss": total, "norm": norm}

    def _parameters(self) -> Iterable[Tensor]:
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                yield from group["params"]


def slices(count: int, parts: int) -> list[slice]:
    """`count` rows in so many parts of nearly one size, without empty ones."""
    edges = [count * part // parts for part in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]
