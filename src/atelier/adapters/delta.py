"""What a weight adapter does to one parameter of a network, and how a kind of adapter is described."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHT, BIAS = "weight", "bias"
"""Parameters of a layer."""
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
"""Of the tensors of a layer, by slot."""
ALPHA = "alpha"
"""The slot of the number that the difference is divided by its rank with."""
SCALE = "scale"
"""The slot of what the difference is multiplied by, in place of alpha divided by the rank."""
BIAS_DIFFERENCE = "diff_b"
"""The slot of what is added to the bias of a layer, beside an adapter of any kind or alone."""
FACTOR_BIAS = "factor_bias"
"""The slot of the bias of a LoRA's second factor, which is scaled as the product is."""
NEW_BIAS = "bias"
"""The slot of a bias in place of the layer's own."""
ON_INPUT, TERMS, LIMIT = "on_input", "terms", "limit"
"""Slots of what the settings beside a file of PEFT say of (IA)^3 and OFT."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as a hook sees it.

    shape: of its weight; weigh: makes the weight, float32, with what was added before, which takes time and memory;
    run: (x, a weight of as many dimensions) -> what the layer makes of x with that weight and without bias, in the
    precision of x. A weight may have other channels than the layer's own.
    """

    shape: Shape
    weigh: Callable[[], Tensor]
    run: Callable[[Tensor, Tensor], Tensor]


class Delta(ABC):
    """What is added to a parameter, and the same as something added to the output of its layer.

    The contract: `run(x, fold(W, s)) == run(x, W) + s * forward(x, layer)` for every x, W and s.
    """

    __slots__ = ()

    @abstractmethod
    def difference(self, weight: Tensor) -> Tensor:
        """What is added at strength 1, of the shape of `weight`; float32. Raises RuntimeError where it does not fit."""
        ...

    def fold(self, weight: Tensor, strength: float, *, inside: bool = False) -> Tensor:
        """The changed weight, float32. inside: in the place of `weight`, which has to be contiguous; else that stays as
        it is."""
        return torch.add(weight, self.difference(weight), alpha=strength, out=weight if inside else None)

    def forward(self, x: Tensor, layer: Layer) -> Tensor:
        """What is added to the output of the layer at strength 1."""
        return layer.run(x, self.difference(layer.weigh()))


@dataclass(frozen=True, slots=True)
class Values:
    """What a file says of one layer.

    tensors: float32, by slot; rank: None, or how many of the ranks are used.
    """

    tensors: Mapping[str, Tensor]
    rank: int | None = None

    def scale(self, rank: int | None = None) -> float:
        """What the file says, else alpha / rank; without a rank, or an alpha, 1."""
        scale, alpha = self.tensors.get(SCALE), self.tensors.get(ALPHA)
        if scale is not None:
            return float(scale)
        return 1.0 if alpha is None or rank is None else float(alpha) / rank


@dataclass(frozen=True, slots=True)
class Size:
    """How large a new adapter is. alpha: what the difference is multiplied with, times the rank; factor: of LoKr, the
    longer side of its first factor, -1 for the most square one; block: of OFT, the channels that are rotated together.
    """

    rank: int = 4
    alpha: float = 1.0
    factor: int = -1
    block: int = 4

    def of(self, weight: Shape) -> int:
        """The rank for a weight: none is larger than its shorter side."""
        return min(self.rank, *as_matrix(weight))


New = Callable[[Shape, Size, torch.Generator], dict[str, Tensor]]
"""(shape of the weight, size, where random numbers come from) -> tensors by slot, of a delta that changes nothing."""


@dataclass(frozen=True, slots=True)
class WeightKind:
    """A kind of weight adapter.

    endings: the ends of the names of its tensors, by slot, as the programs write them, dot included. is_of: whether
    the slots of a layer are of this kind; those that are beside any kind (`alpha`, `diff_b`, and those of
    `adapters.dora`) are not among them. fits: whether tensors of these shapes change a weight of that shape; build:
    the deltas of a layer, by parameter, from tensors that do. ranked: whether a part of its ranks can be used
    alone; rank: from the shapes of a layer's tensors, what alpha is divided by, None where there is none; mixes:
    whether what it does to a row of the weight depends on the other rows. new: the tensors that training begins with,
    None for a kind that is only read; of_peft: whether PEFT alone keeps it, some of it in the settings beside the file;
    beside: whether training is faster beside the layers than with the differences
    added to their weights.
    """

    name: str
    endings: Mapping[str, tuple[str, ...]]
    is_of: Callable[[AbstractSet[str]], bool]
    fits: Callable[[Shapes, Shape], bool]
    build: Callable[[Values], Mapping[str, Delta]]
    aliases: tuple[str, ...] = ()
    ranked: bool = False
    rank: Callable[[Shapes], int | None] | None = None
    mixes: bool = False
    new: New | None = None
    of_peft: bool = False
    beside: bool = False


def product(left: Shape, right: Shape) -> Shape | None:
    """The shape of left @ right, axes after the first of each taken as one; None where they cannot be multiplied."""
    inner, columns = math.prod(left[1:]), math.prod(right[1:])
    return (left[0], columns) if left and right and inner == right[0] else None


def as_matrix(weight: Shape) -> Shape:
    """(outputs, all else)."""
    return weight[0], math.prod(weight[1:])


def core_fits(core: Shape, up: Shape, down: Shape, weight: Shape) -> bool:
    """Whether `tucker` makes a weight of this shape."""
    return len(up) == len(down) == 2 and core == (up[0], down[0], *weight[2:]) and (up[1], down[1]) == weight[:2]


def pointwise(x: Tensor, matrix: Tensor) -> Tensor:
    """The channels of x mixed by `matrix` (out, in), position by position, in the precision of x: x (B, C, h, w) or
    (…, C)."""
    matrix = matrix.to(x.dtype)
    return F.conv2d(x, matrix[:, :, None, None]) if x.ndim == 4 else F.linear(x, matrix)


def tucker(core: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """(out, in, k, k) from a core (r, r, k, k): its first axis pairs with up (r, out), its second with down (r, in)."""
    return torch.einsum("ijkl,ip,jq->pqkl", core, up, down)


def spread_evenly(shape: Shape, random: torch.Generator) -> Tensor:
    """Uniform numbers of variance 1 / (3 inputs), as torch's own layers begin (He 2015, with a slope of sqrt(5))."""
    bound = 1 / math.sqrt(math.prod(shape[1:]))
    return torch.empty(shape).uniform_(-bound, bound, generator=random)
