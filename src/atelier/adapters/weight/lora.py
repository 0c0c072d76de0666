"""LoRA (Hu 2021, arXiv:2106.09685, equation 3) and LoCon, the same for convolutions, also with a core between."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.adapters.delta import (
    ALPHA,
    WEIGHT,
    Delta,
    Layer,
    Shape,
    Shapes,
    Size,
    Values,
    WeightKind,
    as_matrix,
    core_fits,
    pointwise,
    product,
    spread_evenly,
    tucker,
)

SIZE, PLACES, VALUES = "bias_size", "bias_indices", "bias_values"
WEIGHTS = "weights"
"""The slot of what AdaLoRA (Zhang 2023, arXiv:2303.10512, equation 3) multiplies the ranks with, one number each."""
SPARSE = frozenset({SIZE, PLACES, VALUES})
"""Slots of single elements of the difference: the shape of the weight, (axes,); where they are, (axes, n); (n,)."""


@dataclass(frozen=True, slots=True)
class LowRank(Delta):
    """scale * up @ down. up: (out, r); down: (r, in · k · k), or (r, in) with a core (r, r, k, k) between them.

    between: what becomes of the ranks' activations, (…, r) or (B, r, h, w), before `up`: dropout, in training; None for
    nothing. Only what is computed beside a layer has it.
    """

    up: Tensor
    down: Tensor
    mid: Tensor | None
    scale: float
    between: Callable[[Tensor], Tensor] | None = None

    def difference(self, weight: Tensor) -> Tensor:
        if self.mid is not None:
            return self.scale * tucker(self.mid, self.up.T, self.down).reshape(weight.shape)
        return (self.scale * self.up @ self.down).reshape(weight.shape)

    def fold(self, weight: Tensor, strength: float, *, inside: bool = False) -> Tensor:
        """In one pass over the weight."""
        if self.mid is not None:
            return Delta.fold(self, weight, strength, inside=inside)
        flat = weight.view(len(weight), -1) if inside else weight.reshape(len(weight), -1)
        made = torch.addmm(flat, self.up, self.down, alpha=strength * self.scale, out=flat if inside else None)
        return made.reshape(weight.shape)

    def forward(self, x: Tensor, layer: Layer) -> Tensor:
        """Through the rank, without ever making the difference, in the precision of x; the scale is multiplied where
        there is least to multiply."""
        if self.mid is not None:
            hidden = layer.run(pointwise(x, self.down), self.mid)
        else:
            hidden = layer.run(x, self.down.reshape(len(self.down), *layer.shape[1:]))
        if self.between is not None:
            hidden = self.between(hidden)
        return pointwise(self.scale * hidden, self.up)


@dataclass(frozen=True, slots=True)
class Corrected(Delta):
    """Another delta, and single elements beside it: what LyCORIS' extraction keeps of the difference that the factors
    miss. places: (n,), counted through the whole weight; values: (n,)."""

    inner: Delta
    places: Tensor
    values: Tensor

    def difference(self, weight: Tensor) -> Tensor:
        return self.inner.difference(weight).flatten().index_add(0, self.places, self.values).reshape(weight.shape)


def _fits(shapes: Shapes, weight: Shape) -> bool:
    ranks = math.prod(shapes.get(WEIGHTS, shapes["down"][:1])) == shapes["down"][0]
    return ranks and _factors_fit(shapes, weight) and (SIZE not in shapes or _elements_fit(shapes))


def _elements_fit(shapes: Shapes) -> bool:
    """Whether there is a place for each value; where it is, is known only when the file is read."""
    axes, places, values = (shapes[slot] for slot in (SIZE, PLACES, VALUES))
    return len(axes) == len(values) == 1 and places == (*axes, *values)


def _factors_fit(shapes: Shapes, weight: Shape) -> bool:
    up, down, mid = shapes["up"], shapes["down"], shapes.get("mid")
    if mid is None:
        return product(up, down) == as_matrix(weight)
    (out, rank), (inner, into) = as_matrix(up), as_matrix(down)
    return core_fits(mid, (rank, out), (inner, into), weight)


def _build(values: Values) -> Mapping[str, Delta]:
    up, down = (values.tensors[slot].flatten(1) for slot in ("up", "down"))
    mid, scale, rank = values.tensors.get("mid"), values.scale(len(down)), values.rank
    if mid is not None:
        mid = mid[:rank, :rank]
    made = LowRank(up[:, :rank], down[:rank], mid, scale)
    return {WEIGHT: _corrected(made, values.tensors, scale) if SIZE in values.tensors else made}


def _corrected(inner: LowRank, own: Mapping[str, Tensor], scale: float) -> Delta:
    """The elements are multiplied as the product is. Raises ValueError for places outside of the weight."""
    size, places = [int(n) for n in own[SIZE]], own[PLACES].long()
    limits = torch.tensor(size, device=places.device)[:, None]
    count = len(inner.up) * inner.down.shape[1] * (1 if inner.mid is None else inner.mid[0, 0].numel())
    if math.prod(size) != count or bool(((places < 0) | (places >= limits)).any()):
        raise ValueError(f"has elements of a weight of the shape {size}, or outside of it")
    strides = torch.tensor([math.prod(size[n + 1 :]) for n in range(len(size))], device=places.device)
    return Corrected(inner, (places * strides[:, None]).sum(0), scale * own[VALUES].flatten())


def _new(weight: Shape, size: Size, random: torch.Generator) -> dict[str, Tensor]:
    """down as kohya's scripts and PEFT begin it, up at zero; kernels as LoCon has them."""
    rank, ones = size.of(weight), (1,) * len(weight[2:])
    return {
        "down": spread_evenly((rank, *weight[1:]), random),
        "up": torch.zeros(weight[0], rank, *ones),
        ALPHA: torch.tensor(size.alpha * rank / size.rank),
    }


SPECS = (
    WeightKind(
        "LoRA",
        aliases=("locon",),
        endings={
            "down": (
                ".lora_down.weight",
                ".lora.down.weight",
                "_lora.down.weight",
                ".lora_A.weight",
                ".lora_linear_layer.down.weight",
            ),
            "up": (
                ".lora_up.weight",
                ".lora.up.weight",
                "_lora.up.weight",
                ".lora_B.weight",
                ".lora_linear_layer.up.weight",
            ),
            "mid": (".lora_mid.weight",),
            **{slot: (f".{slot}",) for slot in sorted(SPARSE)},
            WEIGHTS: (".lora_E.weight",),
        },
        is_of=lambda slots: slots - {"mid", WEIGHTS} in ({"up", "down"}, {"up", "down", *SPARSE}),
        fits=_fits,
        build=_build,
        ranked=True,
        rank=lambda shapes: shapes["down"][0],
        new=_new,
        beside=True,
    ),
)
