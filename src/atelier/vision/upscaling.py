"""What an upscaler is: something that makes an image exactly as large as it is told."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from atelier.weights.archive import Stored

MOST_PIXELS = 268_435_456
"""Of a result: 16384 x 16384."""
Size = tuple[int, int]
"""Width and height in pixels."""
Tell = Callable[[int, int], None]
"""Told (done, total) between pieces of work. What it raises ends the work: that is how it is cancelled."""


def quiet(done: int, total: int, /) -> None:
    """Tells nobody."""


class Upscaler(Protocol):
    """Makes images larger. `name` is what infotexts call it."""

    @property
    def name(self) -> str: ...

    def enlarge(self, image: Image, size: Size, tell: Tell = quiet) -> Image:
        """An RGB image of exactly that size from an RGB image of any. Raises NotFinite where a network fails."""
        ...


@dataclass(frozen=True, slots=True)
class Filter:
    """An upscaler that needs no file: one of Pillow's resampling filters. resampling: its number there."""

    name: str
    resampling: int
    aliases: tuple[str, ...] = ()

    def enlarge(self, image: Image, size: Size, tell: Tell = quiet) -> Image:
        from PIL.Image import Resampling

        resized = image.resize(size, Resampling(self.resampling))
        tell(1, 1)
        return resized


@dataclass(frozen=True, slots=True)
class ScaleNet:
    """A network that enlarges, ready to run.

    run: (1, 3, h, w) in [0, 1] to (1, 3, h * scale, w * scale), on `device` in `dtype`; multiple: what h and w must be
    multiples of; tile: the largest side of what it is given at once, in pixels, by the memory that it needs.
    """

    run: Callable[[Tensor], Tensor]
    scale: int
    device: torch.device
    dtype: torch.dtype
    multiple: int = 1
    tile: int = 192


@dataclass(frozen=True, slots=True)
class FileKind:
    """An architecture of upscalers that are read from files.

    detect: whether the names of a file's tensors are its; load: the network, as `dtype` on `device`. It raises BadFile
    for what is missing, left over or of the wrong shape.
    """

    name: str
    detect: Callable[[Collection[str]], bool]
    load: Callable[[Stored, torch.device, torch.dtype], ScaleNet]
    aliases: tuple[str, ...] = ()
