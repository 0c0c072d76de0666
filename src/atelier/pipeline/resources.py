"""What a run needs of the machine, as a protocol; `runtime` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import torch
from PIL.Image import Image
from torch import Tensor

from atelier.families.checkpoint import Checkpoint
from atelier.models.vae import AutoencoderKL
from atelier.nn.net import Net
from atelier.prompt import Marks
from atelier.request.resolved import ModelRef

T_co = TypeVar("T_co", covariant=True)


class TextEncoder(Protocol):
    """A model's text encoder and its tokenizer."""

    @property
    def marks(self) -> Marks: ...

    def tokenize(self, text: str, /) -> list[int]:
        """Ids without marks, as many as it takes."""
        ...

    def states(self, rows: Sequence[Sequence[int]], clip_skip: int, /) -> Tensor:
        """Rows of ids (N, T) -> what the denoiser attends to (N, T, C). Raises BadInput for a bad clip_skip."""
        ...


@dataclass(frozen=True, slots=True)
class PartOf(Generic[T_co]):
    """Names a part of a model that can be borrowed, and its type."""

    name: Literal["text", "unet", "vae"]


TEXT: PartOf[TextEncoder] = PartOf("text")
UNET: PartOf[Net] = PartOf("unet")
VAE: PartOf[AutoencoderKL] = PartOf("vae")

T = TypeVar("T")


class Resources(Protocol):
    """The models, the device and the disk, as far as a run sees them."""

    @property
    def device(self) -> torch.device:
        """Where networks compute."""
        ...

    def checkpoint(self, model: ModelRef) -> Checkpoint:
        """What is known of a model without reading its tensors. Raises BadFile."""
        ...

    def borrow(self, model: ModelRef, part: PartOf[T], /) -> AbstractContextManager[T]:
        """A part on the device, ready to compute, held in memory until the context ends. Raises BadFile."""
        ...

    def is_loaded(self, model: ModelRef, part: PartOf[T], /) -> bool:
        """Whether borrowing it reads no file."""
        ...

    def image(self, path: Path) -> Image:
        """The image in a file, upright, RGB or RGBA. Raises BadFile."""
        ...

    def save(self, image: Image, infotext: str, *, output: str, index: int, count: int, seed: int) -> Path:
        """Writes a whole image and returns where it lies. Raises BadFile or StorageFull, leaving nothing behind."""
        ...
