"""What a run needs of the machine, as a protocol; `runtime` implements it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from PIL.Image import Image
from torch import nn

from atelier.adapters.steering import HintNet, ImagePromptNet
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.image_encoder import ImageEncoder
from atelier.checkpoints.image_text import ImageText
from atelier.checkpoints.text import TextEncoder, TextTowers
from atelier.models.photomaker import PhotoMaker
from atelier.models.taesd import TinyAutoencoder
from atelier.models.vae import AutoencoderKL
from atelier.nn.net import Net
from atelier.request.resolved import AdapterRef, ImageRef, InNetwork, ModelRef, NetworkRef, NoNetwork
from atelier.vision.annotate import Ready
from atelier.vision.depth import DepthEstimator
from atelier.vision.faces import FaceReader
from atelier.vision.networked import Networked
from atelier.vision.upscaling import Upscaler

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class PartOf(Generic[T_co]):
    """Names the role of a network that can be borrowed, and its type. The family says which of its parts has it.

    file: the file that it lies in, of a network beside the model; None for one of the model's own."""

    name: str
    file: NetworkRef | None = None


TEXT: PartOf[TextEncoder] = PartOf("text")
DENOISER: PartOf[Net] = PartOf("denoiser")
IMAGE_TEXT: PartOf[ImageText] = PartOf("image and text")
AUTOENCODER: PartOf[AutoencoderKL] = PartOf("autoencoder")
TINY: PartOf[TinyAutoencoder] = PartOf("tiny autoencoder")
"""That the model's reference names, or else lies beside the model; nobody borrows it from a model without one."""
DEPTH: PartOf[DepthEstimator] = PartOf("depth estimator")
"""That lies in the model's folder; nobody borrows it from a model without one."""
UPSCALER: PartOf[Upscaler] = PartOf("upscaler")
"""Of a file that holds nothing else: its reference is no checkpoint's."""

STEERING = "steering"


N_co = TypeVar("N_co", bound=HintNet | ImagePromptNet, covariant=True)


@dataclass(frozen=True, slots=True)
class Steering(Generic[N_co]):
    """A network beside the denoiser that steers it."""

    net: N_co


def hint_net(file: NetworkRef) -> PartOf[Steering[HintNet]]:
    """What reads a hint for a model."""
    return PartOf(STEERING, file)


def image_prompt_net(file: NetworkRef) -> PartOf[Steering[ImagePromptNet]]:
    """What reads an image as a prompt for a model."""
    return PartOf(STEERING, file)


IMAGES = "image encoder"


def image_encoder(file: NoNetwork | InNetwork) -> PartOf[ImageEncoder]:
    """What sees images for image prompts: that of a file, or else the model's own."""
    return PartOf(IMAGES, file.file if isinstance(file, InNetwork) else None)


FACES = "faces"


def face_reader(folder: NetworkRef) -> PartOf[FaceReader]:
    """What finds faces, of the folder of a pack."""
    return PartOf(FACES, folder)


PERSON = "person"


def person_net(file: NetworkRef) -> PartOf[PhotoMaker]:
    """What reads images of a person for a model."""
    return PartOf(PERSON, file)


ANNOTATOR = "annotator"


def annotator_net(file: NetworkRef) -> PartOf[Ready]:
    """What draws hints, of a file that is called as the annotator."""
    return PartOf(ANNOTATOR, file)


T = TypeVar("T")


def has_tiny(model: ModelRef) -> bool:
    """Whether a tiny autoencoder makes the last images."""
    return any(part.role == TINY.name for part in model.parts)


def networks(part: object) -> list[nn.Module]:
    """Those that a part consists of, as far as their weights are in this process."""
    match part:
        case TextTowers():
            found: list[object] = [*part.nets]
        case ImageText():
            found = [part.vision, part.joint]
        case Networked():
            found = [part.net.run]
        case DepthEstimator():
            found = [part.net]
        case ImageEncoder():
            found = [part.net]
        case Steering():
            found = [*part.net.nets]
        case Ready():
            found = [*part.nets]
        case _:
            found = [part]
    return [net for net in found if isinstance(net, nn.Module)]


ALWAYS = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Merged:
    """A weight adapter in a part of a model.

    strength: for this part; rank: so many of its ranks, None for all; blocks: what the strength is multiplied with in
    each block of the U-Net, none for 1 everywhere; lasting: from which share of a sampling to which it acts.
    """

    file: AdapterRef
    strength: float
    rank: int | None = None
    blocks: tuple[tuple[str, float], ...] = ()
    lasting: tuple[float, float] = ALWAYS


@dataclass(frozen=True, slots=True)
class Adapted:
    """What a part is borrowed with. merged: in the order in which they act; inversions: that a text encoder knows."""

    merged: tuple[Merged, ...] = ()
    inversions: tuple[AdapterRef, ...] = ()

    def at(self, share: float) -> Adapted:
        """What acts when this share of a sampling is done, without when it does."""
        acting = (own for own in self.merged if own.lasting[0] <= share < own.lasting[1])
        return Adapted(tuple(replace(own, lasting=ALWAYS) for own in acting), self.inversions)

    @property
    def changes(self) -> tuple[float, ...]:
        """The shares of a sampling at which something begins or ends to act, ascending: 0, and others below 1."""
        return tuple(sorted({0.0, *(share for own in self.merged for share in own.lasting if share < 1)}))


PLAIN = Adapted()
"""As it is in the model."""


class Resources(Protocol):
    """The models, the device and the disk, as far as a run sees them."""

    @property
    def device(self) -> torch.device:
        """Where networks compute."""
        ...

    def checkpoint(self, model: ModelRef) -> Checkpoint:
        """What is known of a model without reading its tensors. Raises BadFile."""
        ...

    def borrow(self, model: ModelRef, part: PartOf[T], adapted: Adapted = PLAIN, /) -> AbstractContextManager[T]:
        """A part on the device, ready to compute, held in memory until the context ends. Raises BadFile.

        What others borrow adapted otherwise, at the same time, is another.
        """
        ...

    def is_loaded(self, model: ModelRef, part: PartOf[T], adapted: Adapted = PLAIN, /) -> bool:
        """Whether borrowing it reads no file."""
        ...

    def image(self, image: ImageRef) -> Image:
        """The image named, upright, RGB or RGBA. Raises BadFile, also where it is another one by now."""
        ...

    def save(self, image: Image, infotext: str, *, output: str, index: int, count: int, seed: int) -> Path:
        """Writes a whole image and returns where it lies. Raises BadFile or StorageFull, leaving nothing behind."""
        ...
