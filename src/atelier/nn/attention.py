"""Attention and transformer blocks over token sequences (B, T, C)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from atelier.nn.conv import PointwiseConv
from atelier.nn.norm import GroupNorm
from atelier.nn.ports import NOTHING, AttentionLayer, Ports
from atelier.nn.tokens import to_map, to_tokens

SMALL = 2**21
"""Queries times keys: at 1024 of each writing attention out takes half as long as the fused kernel, at 2304 longer."""


def split_heads(x: Float[Tensor, "b t c"], heads: int) -> Float[Tensor, "b heads t d"]:
    """Equal parts of the channels, one for each head."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Float[Tensor, "b heads t d"]) -> Float[Tensor, "b t c"]:
    """The inverse of `split_heads`."""
    return x.transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Scaled dot-product attention of (..., t, d) on (..., s, d): Vaswani 2017 (arXiv:1706.03762), equation 1.

    Where gradients are wanted on a CPU in bfloat16 it is written out, up to SMALL: the backward pass of torch's fused
    kernel is slower there than the matrix products, several times for small maps (measured on a Xeon with AMX).
    """
    learns = torch.is_grad_enabled() and query.requires_grad
    small = query.dtype == torch.bfloat16 and query.shape[-2] * key.shape[-2] <= SMALL
    if causal or query.device.type != "cpu" or not (learns and small):
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
    return scores.softmax(dim=-1) @ value


class Attention(nn.Module):
    """Multi-head attention; self-attention when no context is given. `path` is its name for the attention port."""

    def __init__(
        self, width: int, heads: int, *, context: int | None = None, bias: bool = False, path: str = ""
    ) -> None:
        super().__init__()
        source = width if context is None else context
        self.heads, self.path, self.is_cross = heads, path, context is not None
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(source, width, bias=bias)
        self.to_v = nn.Linear(source, width, bias=bias)
        self.to_out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        context: Float[Tensor, "b s k"] | None = None,
        *,
        causal: bool = False,
        ports: Ports = NOTHING,
        grid: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b t c"]:
        """context: what keys and values are made of; causal: a position sees none after it.

        grid: (height, width) of the map that the positions of x are; None for a sequence, which is one row.
        """
        source = x if context is None else context
        query = split_heads(self.to_q(self._input(ports, "to_q", x)), self.heads)
        key = split_heads(self.to_k(self._input(ports, "to_k", source)), self.heads)
        value = split_heads(self.to_v(self._input(ports, "to_v", source)), self.heads)
        attended = merge_heads(attend(query, key, value, causal=causal))
        patch = ports.attention.get(self.path)
        if patch is not None:
            layer = AttentionLayer(self.path, self.heads, self.is_cross, grid or (1, x.shape[1]))
            attended = patch(layer, x, query, key, value, attended)
        return self.to_out(attended)

    def _input(self, ports: Ports, projection: str, x: Tensor) -> Tensor:
        """What a projection reads."""
        patch = ports.inputs.get(f"{self.path}.{projection}") if ports.inputs else None
        return x if patch is None else patch(x)


class GatedFeedForward(nn.Module):
    """GEGLU feed-forward: project to 2 x 4 widths, one half gates the other (Shazeer 2020, eq. 6)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(width, 8 * width)
        self.proj_out = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        value, gate = self.proj_in(x).chunk(2, dim=-1)
        gated = F.gelu(gate)
        gated *= value
        del value, gate
        return self.proj_out(gated)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the conditioning and a feed-forward, each pre-normed and residual.

    only_cross: the first attention is to the conditioning too.
    """

    def __init__(self, width: int, heads: int, context: int, path: str, *, only_cross: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads, context=context if only_cross else None, path=f"{path}.attn1")
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, context=context, path=f"{path}.attn2")
        self.norm3 = nn.LayerNorm(width)
        self.ff = GatedFeedForward(width)

    def forward(
        self, x: Float[Tensor, "b t c"], context: Float[Tensor, "b s k"], ports: Ports, grid: tuple[int, int]
    ) -> Float[Tensor, "b t c"]:
        x = x + self.attn1(self.norm1(x), context if self.attn1.is_cross else None, ports=ports, grid=grid)
        x = x + self.attn2(self.norm2(x), context, ports=ports, grid=grid)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of a feature map, with a residual around them.

    `linear` chooses whether the projections in and out are Linear (SD 2, XL) or 1x1 convolutions (SD 1); only_cross:
    see `TransformerBlock`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        depth: int,
        context: int,
        *,
        linear: bool,
        groups: int,
        path: str,
        only_cross: bool = False,
    ) -> None:
        super().__init__()
        self.linear = linear
        self.norm = GroupNorm(groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width) if linear else PointwiseConv(width, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, context, f"{path}.blocks.{k}", only_cross=only_cross) for k in range(depth)
        )
        self.proj_out = nn.Linear(width, width) if linear else PointwiseConv(width, width)

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Float[Tensor, "b s k"], ports: Ports
    ) -> Float[Tensor, "b c h w"]:
        grid = (x.shape[-2], x.shape[-1])
        normed = self.norm(x)
        tokens = self.proj_in(to_tokens(normed)) if self.linear else to_tokens(self.proj_in(normed))
        for block in self.blocks:
            tokens = block(tokens, context, ports, grid)
        out = to_map(self.proj_out(tokens), grid) if self.linear else self.proj_out(to_map(tokens, grid))
        return x + out


class SingleHeadAttention(nn.Module):
    """The autoencoder's attention: one head over all positions, normed and residual."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        tokens = to_tokens(self.norm(x))
        query, key, value = (f(tokens).unsqueeze(1) for f in (self.to_q, self.to_k, self.to_v))
        attended = attend(query, key, value).squeeze(1)
        return x + to_map(self.to_out(attended), (x.shape[-2], x.shape[-1]))


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP."""
    return x * torch.sigmoid(1.702 * x)
