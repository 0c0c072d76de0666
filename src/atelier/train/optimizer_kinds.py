"""The optimizers there are, by the name that optim.kind gives them. Libraries are imported only where they are asked
for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch.optim import Optimizer

from atelier.errors import BadInput
from atelier.train.adafactor import Adafactor
from atelier.train.adamw8bit import AdamW8bit
from atelier.train.lion import Lion
from atelier.train.muon import Muon
from atelier.train.recipe import Optim

Groups = list[dict[str, Any]]
"""Parameter groups: params, lr, full_rate, weight_decay."""


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """An optimizer.

    state: what it remembers, in bytes for a number of a matrix in float32. matrices_only: vectors go to AdamW.
    one_rate: all groups must have the same. moving: numbers of its groups that change from step to step and belong
    into checkpoints.
    """

    name: str
    build: Callable[[Groups, Optim], Optimizer]
    state: float
    matrices_only: bool = False
    one_rate: bool = False
    moving: tuple[str, ...] = ()


def adamw(groups: Groups, optim: Optim) -> Optimizer:
    return torch.optim.AdamW(groups, betas=optim.betas, eps=optim.eps, fused=True)


def _adamw8bit(groups: Groups, optim: Optim) -> Optimizer:
    return AdamW8bit(groups, optim.betas, optim.eps)


def _adafactor(groups: Groups, optim: Optim) -> Optimizer:
    return Adafactor(groups, scale=optim.scale_parameter)


def _prodigy(groups: Groups, optim: Optim) -> Optimizer:
    try:
        from prodigyopt import Prodigy
    except ImportError:
        raise BadInput(
            "optim.kind = \"prodigy\": prodigyopt is not installed; pip install 'atelier[train]', or choose another"
        ) from None
    return Prodigy(groups, betas=optim.betas, eps=optim.eps, use_bias_correction=True, safeguard_warmup=True)


def _lion(groups: Groups, optim: Optim) -> Optimizer:
    return Lion(groups, optim.betas)


def _muon(groups: Groups, optim: Optim) -> Optimizer:
    return Muon(groups, optim.rate)


def _sgd(groups: Groups, optim: Optim) -> Optimizer:
    return torch.optim.SGD(groups, momentum=optim.momentum, nesterov=optim.momentum > 0)


_PRODIGY_MOVING = ("d", "d_max", "d_numerator", "d_denom", "d_hat", "k")

OPTIMIZERS: Mapping[str, OptimizerSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            OptimizerSpec("adamw", adamw, state=8),
            OptimizerSpec("adamw8bit", _adamw8bit, state=2),
            OptimizerSpec("adafactor", _adafactor, state=0),
            OptimizerSpec("prodigy", _prodigy, state=16, one_rate=True, moving=_PRODIGY_MOVING),
            OptimizerSpec("lion", _lion, state=4),
            OptimizerSpec("muon", _muon, state=4, matrices_only=True),
            OptimizerSpec("sgd", _sgd, state=4),
        )
    }
)
