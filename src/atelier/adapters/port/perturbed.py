"""The identity in place of attention maps, for perturbed-attention guidance."""

from __future__ import annotations

from torch import Tensor

from atelier.nn.attention import merge_heads
from atelier.nn.ports import AttentionLayer, Ports


def perturbed(depth: int) -> Ports:
    """Every position of the U-Net's middle attends to itself alone (Ahn et al. 2024, arXiv:2403.17377, equation 13).

    depth: transformer blocks in the middle.
    """
    return Ports(attention={f"middle.attention.blocks.{k}.attn1": _itself for k in range(depth)})


def _itself(_: AttentionLayer, _x: Tensor, _query: Tensor, _key: Tensor, value: Tensor, _attended: Tensor, /) -> Tensor:
    return merge_heads(value)
