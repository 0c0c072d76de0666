"""An image that a model looks at while it denoises another: the "reference only" of A1111's ControlNet extension.

It needs no network of its own. The model is shown the image at the same level of noise, and the keys and values of its
self-attentions are kept; then each position of the image that is generated attends to those of the other one too
(docs/steering.md, Examples).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from atelier.nn.attention import attend, merge_heads
from atelier.nn.ports import AttentionLayer, Ports

Bank = dict[str, tuple[Tensor, Tensor]]
"""Keys and values, (B, heads, S, D) each, by the paths of the attentions."""


def remembering(paths: Sequence[str], bank: Bank) -> Ports:
    """Leaves the network as it is, and what these self-attentions read in `bank`."""
    return Ports(attention={path: partial(_kept, bank) for path in paths})


def _kept(
    bank: Bank, layer: AttentionLayer, _x: Tensor, _query: Tensor, key: Tensor, value: Tensor, attended: Tensor, /
) -> Tensor:
    bank[layer.path] = key, value
    return attended


def looking(bank: Bank, shares: Tensor) -> Ports:
    """The positions of row i attend to what is in the bank too; shares: (B,), how far the result goes from what they
    attend to alone (0) to that (1)."""
    return Ports(attention={path: partial(_looked, bank[path], shares) for path in bank})


def _looked(
    kept: tuple[Tensor, Tensor],
    shares: Tensor,
    _layer: AttentionLayer,
    _x: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attended: Tensor,
    /,
) -> Tensor:
    keys, values = (torch.cat([own, other], dim=2) for own, other in zip((key, value), kept, strict=True))
    both = merge_heads(attend(query, keys, values))
    return attended + shares.to(attended)[:, None, None] * (both - attended)
