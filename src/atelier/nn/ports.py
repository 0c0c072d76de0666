"""What enters a denoising network beside x and t: the conditioning, and the ports for adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, TypeVar

from torch import Tensor


class AttentionPatch(Protocol):
    """Changes what one attention layer returns (IP-Adapter adds a second attention over image tokens)."""

    def __call__(self, x: Tensor, query: Tensor, attended: Tensor, /) -> Tensor:
        """x: (B, T, C) layer input; query: (B, heads, T, D); attended: (B, T, C) before the output projection."""
        ...


class FeaturePatch(Protocol):
    """Changes the features that leave one level of a U-Net."""

    def __call__(self, features: Tensor, /) -> Tensor:
        """features: (B, C, h, w), same shape returned."""
        ...


P = TypeVar("P")


def _empty(_: type[P]) -> Mapping[str, P]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ports:
    """Immutable inputs of adapters; a network keeps nothing of them between calls.

    residuals: tensors added to the skip connections of a U-Net in order of their making, the last one to the middle
    (ControlNet: 12 + 1 for Stable Diffusion 1.x). attention and features: patches by module path, such as
    "down.0.attentions.1.blocks.0.attn2" and "up.3".
    """

    residuals: tuple[Tensor, ...] = ()
    attention: Mapping[str, AttentionPatch] = field(default_factory=lambda: _empty(AttentionPatch))
    features: Mapping[str, FeaturePatch] = field(default_factory=lambda: _empty(FeaturePatch))


NOTHING = Ports()


@dataclass(frozen=True, slots=True)
class Conditioning:
    """tokens: (B, T, C) text states; pooled: (B, P) vector condition; channels: (B, K, h, w) appended to x."""

    tokens: Tensor
    pooled: Tensor | None = None
    channels: Tensor | None = None
