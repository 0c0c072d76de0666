"""Masked loss: which part of an image is learned."""

from __future__ import annotations

from torch import Tensor

EMPTY = 1e-4
"""A mask of a smaller mean counts as if it had that: what it leaves weighs nothing rather than everything."""


def masked(error: Tensor, mask: Tensor | None) -> Tensor:
    """An error (B, C, h, w) whose squares weigh as the mask, (B, 1, h, w) in [0, 1], relative to its mean.

    So a mask of ones changes nothing, nor does the size of what it shows change how much an image weighs.
    """
    if mask is None:
        return error
    mean = mask.mean((1, 2, 3), keepdim=True).clamp_min(EMPTY)
    return error * (mask / mean).sqrt()
