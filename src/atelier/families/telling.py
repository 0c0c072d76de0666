"""What a network is told of an image beside its prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier.nn.ports import Conditioning


@dataclass(frozen=True, slots=True)
class Telling:
    """height, width: of the image, in pixels; negative: whether the text is a negative prompt; empty: whether it has no
    words at any time; level: of the noise on a small image that is enlarged."""

    height: int
    width: int
    negative: bool = False
    empty: bool = False
    level: int = 0


Tell = Callable[["Conditioning", Telling], "Conditioning"]
"""What the text encoders say of one text, tokens (T, C) and pooled (P,) -> what the network is told, sizes (N,) of
which are float32."""


def as_said(said: Conditioning, _: Telling) -> Conditioning:
    """Nothing but the text."""
    return said


def silent(said: Conditioning) -> Conditioning:
    """As many tokens, all of them zero, and a pooled state of zeros."""
    pooled = None if said.pooled is None else said.pooled.new_zeros(said.pooled.shape)
    return replace(said, tokens=said.tokens.new_zeros(said.tokens.shape), pooled=pooled)


def with_sizes(said: Conditioning, *sizes: float) -> Conditioning:
    """With numbers that are embedded as time is."""
    import torch

    return replace(said, sizes=torch.tensor(sizes, dtype=torch.float32, device=said.tokens.device))
