"""The way between a feature map and a sequence of tokens, one for each position, row by row. Neither copies."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def to_tokens(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b t c"]:
    """One token of c channels for each of the t = h w positions."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def to_map(tokens: Float[Tensor, "b t c"], grid: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """The inverse of `to_tokens`; grid: (h, w)."""
    return tokens.reshape(len(tokens), *grid, -1).permute(0, 3, 1, 2)
