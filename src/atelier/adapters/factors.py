"""Matrices as products of two narrow ones, and how narrow they may be.

The best approximation of a matrix at rank r is the first r terms of its singular value decomposition (Eckart and Young
1936).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Decomposed:
    """left (out, n), values (n,), falling, right (n, in): the matrix is (left * values) @ right."""

    left: Tensor
    values: Tensor
    right: Tensor

    @property
    def squares(self) -> float:
        """The sum of the squares of the matrix."""
        return float(self.values.double().square().sum())

    def cut(self, rank: int) -> tuple[Tensor, Tensor]:
        """(up (out, r), down (r, in)): the best product of that rank, or of as much as there is; each has the roots of
        the values, so that both fit into short precisions."""
        roots = self.values[:rank].sqrt()
        return (self.left[:, :rank] * roots).contiguous(), (roots[:, None] * self.right[:rank]).contiguous()

    def kept(self, rank: int) -> float:
        """The sum of the squares of that product."""
        return float(self.values[:rank].double().square().sum())


def decomposed(matrix: Tensor) -> Decomposed:
    """Of any matrix, float32."""
    return Decomposed(*cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(matrix, full_matrices=False)))


def decomposed_product(up: Tensor, down: Tensor) -> Decomposed:
    """Of up (out, r) @ down (r, in), without ever making it: with Q R of both, only r x r numbers are decomposed."""
    tall, upper = cast("tuple[Tensor, Tensor]", torch.linalg.qr(up))
    wide, lower = cast("tuple[Tensor, Tensor]", torch.linalg.qr(down.T))
    core = decomposed(upper @ lower.T)
    return Decomposed(tall @ core.left, core.values, core.right @ wide.T)
