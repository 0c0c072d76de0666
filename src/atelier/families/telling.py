"""What a network is told of an image beside its prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atelier.nn.ports import Conditioning


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of an image with one text. original, target: (height, width), None for that which it is made at;
    top, left: of the crop; score: of looks, None for the usual one."""

    original: tuple[int, int] | None = None
    top: int = 0
    left: int = 0
    target: tuple[int, int] | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Telling:
    """height, width: of the image, in pixels; negative: whether the text is a negative prompt; empty: whether it has no
    words at any time; level: of the noise on a small image that is enlarged; positively, negatively: what is said with
    a prompt, and with a negative prompt."""

    height: int
    width: int
    negative: bool = False
    empty: bool = False
    level: int = 0
    positively: Said = Said()
    negatively: Said = Said()

    @property
    def said(self) -> Said:
        """What goes with the text."""
        return self.negatively if self.negative else self.positively

    @property
    def original(self) -> tuple[int, int]:
        """Height and width that the image is said to have had."""
        return self.said.original or (self.height, self.width)

    @property
    def target(self) -> tuple[int, int]:
        """Height and width that it is said to have."""
        return self.said.target or (self.height, self.width)


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
