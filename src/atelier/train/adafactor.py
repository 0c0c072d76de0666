"""Adafactor: second moments of rows and columns in place of those of every weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from atelier.train.own_optimizer import OwnOptimizer

DECAY = -0.8
"""The second moments forget as step^-0.8 says (section 7.2)."""
LEAST_SCALE = 1e-3
"""What a parameter counts at least, where steps are relative to its size (table 4)."""
MOST = 1.0
"""The root mean square of an update is at most this (section 6)."""


class Adafactor(OwnOptimizer):
    """Shazeer 2018 (arXiv:1804.04235), algorithms 4 and 5, without momentum; decay is decoupled.

    scale: whether a step is relative to the size of what it moves, as in the paper (section 8). What begins at zero
    then hardly moves: LoRA's second matrix at a thousandth of the rate. The published scripts for adapters therefore
    say scale_parameter=False.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, scale: bool) -> None:
        super().__init__(groups, {})
        self._scale = scale

    def _move(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state, least = self.state[parameter], torch.finfo(parameter.dtype).eps
        if not state:
            state.update(_begun(gradient))
        state["step"] += 1
        count = float(state["step"])
        rate = min(group["lr"], count**-0.5)
        if self._scale:
            rate *= max(LEAST_SCALE, _size(parameter))
        update = _variance(state, gradient, count**DECAY, least).clamp_(min=least**2).rsqrt_().mul_(gradient)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-rate / max(1.0, _size(update) / MOST))


def _begun(gradient: Tensor) -> dict[str, Tensor]:
    step = {"step": torch.tensor(0.0)}
    if gradient.ndim < 2:
        return {**step, "variance": torch.zeros_like(gradient)}
    row, column = (*gradient.shape[:-1], 1), (*gradient.shape[:-2], 1, gradient.shape[-1])
    return {**step, "row_var": gradient.new_zeros(row), "col_var": gradient.new_zeros(column)}


def _variance(state: Mapping[str, Tensor], gradient: Tensor, share: float, least: float) -> Tensor:
    """The second moments of a gradient, after `share` of this one has entered them; for a matrix from those of its rows
    and columns, for kernels of each position."""
    squares = gradient.square()
    if gradient.ndim < 2:
        return state["variance"].lerp_(squares, share).clone()
    rows = state["row_var"].lerp_(squares.mean(-1, keepdim=True), share)
    columns = state["col_var"].lerp_(squares.mean(-2, keepdim=True), share)
    return (rows @ columns).div_(rows.mean(-2, keepdim=True).clamp_(min=least))


def _size(tensor: Tensor) -> float:
    """The root of the mean square."""
    return float(tensor.square().mean().sqrt())
