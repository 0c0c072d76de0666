"""What stages hand to each other, by typed keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from PIL.Image import Image
from torch import Tensor

from atelier.adapters.steering import Features
from atelier.pipeline.conditioning import States
from atelier.pipeline.resources import Adapted
from atelier.vision.masks import Box

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Key(Generic[T]):
    """Names a value and its type. Two keys of one name are the same key."""

    name: str


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """A decoded image and its infotext."""

    image: Image
    infotext: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """The image to start from, at the size that is generated.

    image: RGB; mask: L, 255 where it is made anew, None for all of it; whole: the image that the result is part of,
    RGB; overlay: L, of the size of `whole`, where the result is seen; box: where in `whole` it belongs, None for
    all of it; kept: where the image is that a canvas grew around.
    """

    image: Image
    mask: Image | None
    whole: Image
    overlay: Image | None
    box: Box | None
    kept: Box | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the latent before it is sampled. latent: (1, C, h, w), or a row for each sample; mask:
    (1, 1, h, w), 1 where it is made anew."""

    latent: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the regions are. masks: (1, 1, h, w) of each, 0 to 1; colours: flat clean latents (N, C, 1, 1) that they
    may stand on, none where they need none."""

    masks: tuple[Tensor, ...]
    colours: Tensor


@dataclass(frozen=True, slots=True)
class Hint:
    """What a network beside the denoiser reads. image: (1, 3, H, W) in [0, 1]; mask: (1, 1, h, w) in positions of the
    latent, where it acts, None for everywhere."""

    image: Tensor
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class Looked:
    """What an image prompt reads of one image; mask: as of a hint."""

    features: Features
    mask: Tensor | None


Latents = Mapping[int, Tensor]
"""Index of a sample -> its latent (C, h, w), float32."""
Images = Mapping[int, FinishedImage]
"""Index of a sample -> what became of it."""

STATES: Key[States] = Key("states")
LATENTS: Key[Latents] = Key("latents")
IMAGES: Key[Images] = Key("images")
PREPARED: Key[Prepared] = Key("prepared")
KNOWN: Key[Known] = Key("known")
CHANNELS: Key[Tensor] = Key("channels")
"""What the network sees beside the latent: (1, K, h, w)."""
PLACED: Key[Placed] = Key("placed")
FIRST_LATENTS: Key[Latents] = Key("first latents")
ENLARGED: Key[Known] = Key("enlarged")
LARGER_PREPARED: Key[Prepared] = Key("larger prepared")
LARGER_KNOWN: Key[Known] = Key("larger known")
LARGER_CHANNELS: Key[Tensor] = Key("larger channels")
LARGER_PLACED: Key[Placed] = Key("larger placed")
LARGER_STATES: Key[States] = Key("larger states")
REFINER_STATES: Key[States] = Key("refiner states")
"""Of a second pass: what the first one made, the same enlarged, the image to start from at the larger size, and the
prompts where another model reads them; the last as the refiner reads them."""


def encoded_with(states: Key[States], adapted: Adapted) -> Key[States]:
    """Where the states of prompts are that were encoded with these weight adapters in the text encoders."""
    return Key(f"{states.name} with {adapted.merged}") if adapted.merged else states


class Values:
    """The values of a run, put by one stage and read or taken by others."""

    def __init__(self) -> None:
        self._stored: dict[Key[object], object] = {}

    def put(self, key: Key[T], value: T) -> None:
        """Keeps a value in place of one of the same key."""
        self._stored[cast("Key[object]", key)] = value

    def read(self, key: Key[T]) -> T:
        """The value of `key`. Raises KeyError where no stage has put one: the plan is wrong."""
        return cast("T", self._stored[cast("Key[object]", key)])

    def take(self, key: Key[T]) -> T:
        """The value of `key`, which is kept no longer. Raises KeyError as `read` does."""
        return cast("T", self._stored.pop(cast("Key[object]", key)))
