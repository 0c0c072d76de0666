"""OFT (Qiu 2023, arXiv:2306.07280): blocks of output channels are rotated; BOFT (Liu 2023, arXiv:2311.06243): that
several times, each time of other channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from atelier.adapters.delta import ALPHA, WEIGHT, Delta, Shape, Shapes, Size, Values, WeightKind

TINY = 1e-8
BLOCKS, BUTTERFLY = 3, 4
"""Dimensions of the rotations: of one layer of them, and of several."""


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


@dataclass(frozen=True, slots=True)
class Butterfly(Delta):
    """Layer after layer of rotations, each of blocks of channels that lie twice as far apart as in the one before.

    blocks: (layers, out / n, n, n), what the rotations are made of; limit, rows: see `Rotated`.
    """

    blocks: Tensor
    limit: float
    rows: Tensor | None

    def difference(self, weight: Tensor) -> Tensor:
        _, count, size, _ = self.blocks.shape
        rotated = weight.reshape(len(weight), -1)
        for layer, mixing in enumerate(_cayley(self.blocks, self.limit * len(weight))):
            order = _woven(len(weight), 2**layer * size // 2).to(weight.device)
            mixed = mixing @ rotated[order].reshape(count, size, -1)
            rotated = torch.empty_like(rotated).index_copy_(0, order, mixed.reshape(rotated.shape))
        rotated = rotated.reshape(weight.shape)
        if self.rows is not None:
            rotated = rotated * self.rows.reshape(-1, *(1,) * (weight.ndim - 1))
        return rotated - weight


def _woven(channels: int, apart: int) -> Tensor:
    """The channels in pairs that lie `apart`: 0, apart, 1, 1 + apart, … of each run of twice as many."""
    return torch.arange(channels).reshape(-1, 2, apart).transpose(1, 2).flatten()


def _cayley(blocks: Tensor, limit: float) -> Tensor:
    """(I + Q)(I - Q)^-1 of the skew part Q = B - B^T, the norm of all Q together limited."""
    skew = blocks - blocks.transpose(-1, -2)
    if limit > 0:
        norm = skew.square().sum().sqrt() + TINY
        skew = skew * (limit / norm).clamp(max=1)
    one = torch.eye(blocks.shape[-1], device=blocks.device)
    return (one + skew) @ cast("Tensor", torch.linalg.inv(one - skew))


def _fits(shapes: Shapes, weight: Shape) -> bool:
    blocks = shapes["oft_diag"] if "oft_diag" in shapes else shapes["oft_blocks"]
    rows = math.prod(shapes.get("rescale", weight[:1]))
    if len(blocks) == BUTTERFLY and "oft_blocks" in shapes:
        layers, count, size, other = blocks
        pairs = size % 2 == 0 and layers > 0 and weight[0] % (2 ** (layers - 1) * size) == 0
        return pairs and size == other and count * size == rows == weight[0]
    return len(blocks) == BLOCKS and blocks[1] == blocks[2] and blocks[0] * blocks[1] == rows == weight[0]


def _build(values: Values) -> Mapping[str, Delta]:
    own = values.tensors
    given = "oft_diag" in own
    blocks = own["oft_diag" if given else "oft_blocks"]
    alpha = own.get(ALPHA)
    limit = 0.0 if alpha is None else float(alpha)
    if blocks.ndim == BUTTERFLY:
        return {WEIGHT: Butterfly(blocks, limit, own.get("rescale"))}
    return {WEIGHT: Rotated(blocks, limit, own.get("rescale"), given)}


def _new(weight: Shape, size: Size, _: torch.Generator) -> dict[str, Tensor]:
    """Rotations by nothing, of blocks as near to the wanted size as divides the channels; without a limit."""
    block = min((n for n in range(1, weight[0] + 1) if weight[0] % n == 0), key=lambda n: (abs(n - size.block), -n))
    return {"oft_blocks": torch.zeros(weight[0] // block, block, block), ALPHA: torch.tensor(0.0)}


SPECS = (
    WeightKind(
        "OFT",
        endings={"oft_blocks": (".oft_blocks",), "oft_diag": (".oft_diag",), "rescale": (".rescale",)},
        is_of=lambda slots: slots - {"rescale"} in ({"oft_blocks"}, {"oft_diag"}),
        fits=_fits,
        build=_build,
        new=_new,
        aliases=("diag-oft",),
        mixes=True,
    ),
)
