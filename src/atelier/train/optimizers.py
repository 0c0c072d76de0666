"""Optimizers of the recipes: which parameters learn together, at which rate, and what a step does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from atelier.errors import BadInput
from atelier.train.muon import Muon
from atelier.train.optimizer_kinds import OPTIMIZERS, Groups, OptimizerSpec
from atelier.train.optimizer_kinds import adamw as adamw_of
from atelier.train.recipe import Optim

UP = "up"
"""What the second matrix of a LoRA is called."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that learn alike: at `factor` times optim.rate.

    decay: of matrices and kernels; None is optim.weight_decay. Vectors have none.
    """

    name: str
    parameters: Sequence[Tensor]
    factor: float = 1.0
    decay: float | None = None


def grouped(groups: Sequence[Group], optim: Optim, name: str = "all") -> dict[str, Optimizer]:
    """The optimizer of optim.kind over the groups, by the name under which checkpoints keep it.

    What moves matrices only (Muon) leaves vectors to AdamW, as `name`.vectors. Raises BadInput where the optimizer
    finds its rate itself and the groups' differ, or where its library is missing.
    """
    spec = OPTIMIZERS[optim.kind]
    if not spec.matrices_only:
        return {name: _built(spec, groups, optim)}
    made: dict[str, Optimizer] = {}
    for part, kind, matrix in ((name, spec, True), (f"{name}.vectors", OPTIMIZERS["adamw"], False)):
        own = [replace(g, parameters=[p for p in g.parameters if (p.ndim >= 2) == matrix]) for g in groups]
        if any(g.parameters for g in own):
            made[part] = _built(kind, own, optim)
    return made


def divided(group: Group, named: Iterable[tuple[str, Tensor]], ratio: float) -> list[Group]:
    """LoRA+: the parameters of the group, by name, those called `up` apart, at `ratio` times its rate.

    Source: Hayou 2024 (arXiv:2402.12354), section 4; 16 is usual.
    """
    pairs = list(named)
    upper = [p for key, p in pairs if UP in key.split(".")]
    rest = [p for key, p in pairs if UP not in key.split(".")]
    return [
        replace(group, parameters=rest),
        replace(group, name=f"{group.name}.{UP}", parameters=upper, factor=ratio * group.factor),
    ]


def optimizers(
    name: str, net: nn.Module, optim: Optim, outer: Sequence[str], bases: Mapping[str, Tensor] | None = None
) -> dict[str, Optimizer]:
    """What the recipe asks for, for all that `net` learns, by the name under which checkpoints keep it.

    Muon leaves to AdamW, as `name`.vectors, not only vectors but also the layers whose names begin as one of `outer`,
    which stand between the network and the world. `bases` are Muon's, by parameter name.
    """
    learning = [(key, p) for key, p in net.named_parameters() if p.requires_grad]
    if optim.kind != "muon":
        return grouped([Group(name, [p for _, p in learning])], optim, name)
    inner = [p for key, p in learning if p.ndim >= 2 and not key.startswith(tuple(outer))]
    chosen = set(map(id, inner))
    rest = [p for _, p in learning if id(p) not in chosen]
    named: dict[Tensor, Tensor] = {net.get_parameter(key): basis for key, basis in (bases or {}).items()}
    muon = Muon(inner, optim.rate, weight_decay=optim.weight_decay, bases=named)
    vectors = _built(OPTIMIZERS["adamw"], [Group(f"{name}.vectors", rest)], optim)
    return {name: muon, f"{name}.vectors": vectors}


def adamw(nets: Iterable[nn.Module], optim: Optim, rate: float | None = None) -> Optimizer:
    """AdamW, whatever optim.kind says, at optim.rate or another, for all that the networks learn."""
    factor = 1.0 if rate is None else rate / optim.rate
    group = Group("all", [p for net in nets for p in net.parameters() if p.requires_grad], factor)
    return adamw_of(_tables([group], optim), optim)


def _built(spec: OptimizerSpec, groups: Sequence[Group], optim: Optim) -> Optimizer:
    tables = _tables(groups, optim)
    if spec.one_rate and len({table["full_rate"] for table in tables}) > 1:
        raise BadInput(
            f'optim.kind = "{spec.name}" finds one rate for all: give {", ".join(g.name for g in groups)} the same'
        )
    return spec.build([{**table, "moving": spec.moving} for table in tables], optim)


def _tables(groups: Sequence[Group], optim: Optim) -> Groups:
    """Each group as torch wants it: matrices with decay, vectors without. It remembers its full rate for the pace."""
    tables: list[dict[str, Any]] = []
    for group in groups:
        rate = optim.rate * group.factor
        decay = optim.weight_decay if group.decay is None else group.decay
        matrices = [p for p in group.parameters if p.ndim >= 2]
        vectors = [p for p in group.parameters if p.ndim < 2]
        for parameters, own in ((matrices, decay), (vectors, 0.0)):
            if parameters:
                tables.append({"params": parameters, "lr": rate, "full_rate": rate, "weight_decay": own})
    return tables


def clipped(parameters: Iterable[Tensor], limit: float) -> torch.Tensor:
    """Scales all gradients together to a norm of at most `limit`; returns the norm before."""
    return nn.utils.clip_grad_norm_(parameters, limit)


def stepped(optimizers: Mapping[str, Optimizer], net: nn.Module, loss: torch.Tensor, limit: float) -> torch.Tensor:
    """One step of all optimizers of `net` down the loss; returns the norm of the gradients before they were clipped."""
    net.zero_grad(set_to_none=True)
    loss.backward()
    norm = clipped(net.parameters(), limit)
    for optimizer in optimizers.values():
        optimizer.step()
    return norm
