"""What a layer makes of its input with another weight than its own: for hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from atelier.nn.seamless import EDGES, Seamless, padded

Run = Callable[[Tensor, Tensor], Tensor]
"""(x, weight) -> the output without bias."""


def runner(module: nn.Module, options: Mapping[str, object]) -> Run:
    """How the module computes. options: what it was called with beside x. Raises TypeError for a layer of a kind that
    no adapter can act on."""
    match module:
        case nn.Conv2d():
            seamless = options.get("seamless", EDGES)
            assert isinstance(seamless, Seamless)
            return partial(_convolved, module, seamless)
        case nn.Linear():
            return F.linear
        case nn.LayerNorm():
            return partial(_layer_normed, module)
        case nn.GroupNorm():
            return partial(_group_normed, module)
        case nn.Embedding():
            return F.embedding
        case _:
            raise TypeError(f"{type(module).__name__} is no layer that adapters act on")


def spread(bias: Tensor, output: Tensor, module: nn.Module) -> Tensor:
    """A bias (C,) as it is added to the output: over the channels, which convolutions have second."""
    if isinstance(module, nn.Conv2d | nn.GroupNorm):
        return bias.reshape(1, -1, *(1,) * (output.ndim - 2))
    return bias


def _convolved(module: nn.Conv2d, seamless: Seamless, x: Tensor, weight: Tensor) -> Tensor:
    wide, tall = (int(side) for side in module.padding)
    if seamless == EDGES:
        return F.conv2d(x, weight, None, module.stride, (wide, tall))
    return F.conv2d(padded(x, (wide, wide), seamless), weight, None, module.stride)


def _layer_normed(module: nn.LayerNorm, x: Tensor, weight: Tensor) -> Tensor:
    return F.layer_norm(x, module.normalized_shape, weight, None, module.eps)


def _group_normed(module: nn.GroupNorm, x: Tensor, weight: Tensor) -> Tensor:
    return F.group_norm(x, module.num_groups, weight, None, module.eps)
