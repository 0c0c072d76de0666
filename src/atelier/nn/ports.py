"""What enters a denoising network beside x and t: the conditioning, and the ports for adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeVar

from torch import Tensor

from atelier.nn.seamless import EDGES, Seamless


@dataclass(frozen=True, slots=True)
class AttentionLayer:
    """The attention that a patch is called in.

    path: its name, as in `Ports.attention`; is_cross: whether keys and values come from the conditioning;
    grid: (height, width) of the map whose positions are the T queries, row by row.
    """

    path: str
    heads: int
    is_cross: bool
    grid: tuple[int, int]


class AttentionPatch(Protocol):
    """Changes what one attention layer returns.

    IP-Adapter adds a second attention over image tokens, perturbed-attention guidance takes the values in place of
    what was attended, regional prompts give each part of the grid an attention of its own.
    """

    def __call__(
        self, layer: AttentionLayer, x: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, /
    ) -> Tensor:
        """x: (B, T, C) layer input; query: (B, heads, T, D); key and value: (B, heads, S, D);
        attended: (B, T, heads D) before the output projection, same shape returned."""
        ...


class InputPatch(Protocol):
    """Changes what one projection of an attention layer reads (ControlNet-LLLite)."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """x: (B, T, C), the layer's input; same shape returned."""
        ...


class FeaturePatch(Protocol):
    """Changes the features that leave one level of a U-Net, or one block of its way down."""

    def __call__(self, features: Tensor, /) -> Tensor:
        """features: (B, C, h, w), same shape returned."""
        ...


class SkipPatch(Protocol):
    """Changes both halves of a block's input on the way up before they are joined (FreeU)."""

    def __call__(self, features: Tensor, skip: Tensor, /) -> tuple[Tensor, Tensor]:
        """features: (B, C, h, w) from below; skip: (B, K, h, w) from beside; both returned, in their shapes."""
        ...


P = TypeVar("P")


def _empty(_: type[P]) -> Mapping[str, P]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ports:
    """Immutable inputs of adapters; a network keeps nothing of them between calls.

    residuals: tensors added to the skip connections of a U-Net in order of their making, the last one to the middle
    (ControlNet: 12 + 1 for Stable Diffusion 1.x). attention and features: patches by module path, such as
    "down.0.attentions.1.blocks.0.attn2" and "up.3". features also has blocks of the way down, by level and block, such
    as "down.0.1": what is behind its attention, before the level halves the resolution (T2I-Adapter); it is the skip
    connection too. inputs: patches by the path of a projection of an attention of a U-Net, such as
    "down.0.attentions.1.blocks.0.attn1.to_q". skips: patches by level and block on the way up, such as "up.1.2"; they
    see the skip connection with its residual. seamless: where opposite edges meet, of all convolutions. omitted:
    blocks of a transformer that are left out, by path, such as "blocks.7" (skip-layer guidance).
    """

    residuals: tuple[Tensor, ...] = ()
    attention: Mapping[str, AttentionPatch] = field(default_factory=lambda: _empty(AttentionPatch))
    features: Mapping[str, FeaturePatch] = field(default_factory=lambda: _empty(FeaturePatch))
    inputs: Mapping[str, InputPatch] = field(default_factory=lambda: _empty(InputPatch))
    skips: Mapping[str, SkipPatch] = field(default_factory=lambda: _empty(SkipPatch))
    seamless: Seamless = EDGES
    omitted: frozenset[str] = frozenset()


NOTHING = Ports()


def both(first: Ports, second: Ports) -> Ports:
    """One value that does what both do, `first` before `second` where they meet; residuals are added."""
    if second is NOTHING or first is NOTHING:
        return first if second is NOTHING else second
    return Ports(
        residuals=_added(first.residuals, second.residuals),
        attention=_met(first.attention, second.attention, _attention_after),
        features=_met(first.features, second.features, _features_after),
        inputs=_met(first.inputs, second.inputs, _inputs_after),
        skips=_met(first.skips, second.skips, _skips_after),
        seamless=first.seamless if second.seamless == EDGES else second.seamless,
        omitted=first.omitted | second.omitted,
    )


def _added(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A transformer spreads residuals evenly over its blocks, however many there are: those of networks of different
    depth meet in as many as both divide."""
    if not first or not second:
        return first or second
    count = math.lcm(len(first), len(second))
    meeting = [(i * len(first) // count, i * len(second) // count) for i in range(count)]
    sums = {(one, other): first[one] + second[other] for one, other in dict.fromkeys(meeting)}
    return tuple(sums[pair] for pair in meeting)


def _met(first: Mapping[str, P], second: Mapping[str, P], after: Callable[[P, P], P]) -> Mapping[str, P]:
    shared = {path: after(first[path], patch) for path, patch in second.items() if path in first}
    return {**first, **second, **shared}


def _attention_after(first: AttentionPatch, second: AttentionPatch) -> AttentionPatch:
    def patch(
        layer: AttentionLayer, x: Tensor, query: Tensor, key: Tensor, value: Tensor, attended: Tensor, /
    ) -> Tensor:
        return second(layer, x, query, key, value, first(layer, x, query, key, value, attended))

    return patch


def _features_after(first: FeaturePatch, second: FeaturePatch) -> FeaturePatch:
    return lambda features, /: second(first(features))


def _inputs_after(first: InputPatch, second: InputPatch) -> InputPatch:
    return lambda x, /: second(first(x))


def _skips_after(first: SkipPatch, second: SkipPatch) -> SkipPatch:
    return lambda features, skip, /: second(*first(features, skip))


@dataclass(frozen=True, slots=True)
class Conditioning:
    """tokens: (B, T, C) text states; pooled: (B, P) vector condition; sizes: (B, N) numbers that are embedded as time
    is (SDXL: height and width of the original, top and left of the crop, height and width of the target);
    channels: (B, K, h, w) appended to x; guidance: (B,) the CFG scale less 1, for a network that reads it; level: (B,)
    whole numbers, how much noise is on `channels`, for one that reads that."""

    tokens: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None
    channels: Tensor | None = None
    guidance: Tensor | None = None
    level: Tensor | None = None

    def rows(self, index: Tensor) -> Conditioning:
        """Some rows of all of it; index: (R,) whole numbers."""

        def chosen(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.index_select(0, index.to(tensor.device))

        return Conditioning(
            self.tokens.index_select(0, index.to(self.tokens.device)),
            pooled=chosen(self.pooled),
            sizes=chosen(self.sizes),
            channels=chosen(self.channels),
            guidance=chosen(self.guidance),
            level=chosen(self.level),
        )
