"""One optimizer step over the images of a batch: in parts, one after another, and on several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
                if loss.requires_grad:  # a word that these captions do not say learns nothing of them
                    loss.backward()
            total = total.to(loss.device) + loss.detach()
        parameters = list(self._parameters())
        self._share(parameters, total)
        norm = clipped(parameters, self.limit)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return {"loss": total, "norm": norm}

    def _share(self, parameters: Sequence[Tensor], total: Tensor) -> None:
        """Adds up what all processes have, also of parameters that took part in the losses of only some of them."""
        if self.world.size == 1:
            return
        took_part = torch.tensor([float(p.grad is not None) for p in parameters], device=total.device)
        self.world.add([took_part])
        shared = [p for p, processes in zip(parameters, took_part, strict=True) if processes > 0]
        for parameter in shared:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.world.add([p.grad for p in shared if p.grad is not None] + [total])

    def _parameters(self) -> Iterable[Tensor]:
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                yield from group["params"]


def slices(count: int, parts: int) -> list[slice]:
    """`count` rows in so many parts of nearly one size, without empty ones."""
    edges = [count * part // parts for part in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]
