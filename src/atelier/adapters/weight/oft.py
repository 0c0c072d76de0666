"""OFT (Qiu 2023, arXiv:2306.07280): blocks of output channels are rotated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from atelier.adapters.delta import ALPHA, WEIGHT, Delta, Shape, Shapes, Values, WeightKind

TINY = 1e-8
BLOCKS = 3
"""Dimensions of the rotations: more are a butterfly of them (BOFT), which is another kind."""


@dataclass(frozen=True, slots=True)
class Rotated(Delta):
    """Each block of n output channels mixed by a rotation, then scaled row by row.

    blocks: (out / n, n, n), what the rotations are made of, or, where they are `given`, their transposes themselves.
    limit: the largest norm of all skew parts together, times the output channels; 0: none. rows: (out,) or None.
    """

    blocks: Tensor
    limit: float
    rows: Tensor | None
    given: bool

    def difference(self, weight: Tensor) -> Tensor:
        count, size, _ = self.blocks.shape
        mixing = self.blocks if self.given else _cayley(self.blocks, self.limit * len(weight))
        blocks = weight.reshape(count, size, -1)
        rotated = (mixing.transpose(1, 2) @ blocks).reshape(weight.shape)
        if self.rows is not None:
            rotated = rotated * self.rows.reshape(-1, *(1,) * (weight.ndim - 1))
        return rotated - weight


def _cayley(blocks: Tensor, limit: float) -> Tensor:
    """(I + Q)(I - Q)^-1 of the skew part Q = B - B^T, the norm of all Q together limited."""
    skew = blocks - blocks.transpose(1, 2)
    if limit > 0:
        norm = skew.square().sum().sqrt() + TINY
        skew = skew * (limit / norm).clamp(max=1)
    one = torch.eye(blocks.shape[-1], device=blocks.device)
    return (one + skew) @ cast("Tensor", torch.linalg.inv(one - skew))


def _fits(shapes: Shapes, weight: Shape) -> bool:
    blocks = shapes["oft_diag"] if "oft_diag" in shapes else shapes["oft_blocks"]
    rows = math.prod(shapes.get("rescale", weight[:1]))
    return len(blocks) == BLOCKS and blocks[1] == blocks[2] and blocks[0] * blocks[1] == rows == weight[0]


def _build(values: Values) -> Mapping[str, Delta]:
    own = values.tensors
    given = "oft_diag" in own
    blocks = own["oft_diag" if given else "oft_blocks"]
    alpha = own.get(ALPHA)
    return {WEIGHT: Rotated(blocks, 0.0 if alpha is None else float(alpha), own.get("rescale"), given)}


SPECS = (
    WeightKind(
        "OFT",
        endings={"oft_blocks": (".oft_blocks",), "oft_diag": (".oft_diag",), "rescale": (".rescale",)},
        is_of=lambda slots: slots - {"rescale"} in ({"oft_blocks"}, {"oft_diag"}),
        fits=_fits,
        build=_build,
        aliases=("diag-oft",),
    ),
)
