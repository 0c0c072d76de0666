"""What a run needs, on this machine: parts of models in memory, pictures to disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeVar, cast

import torch
from PIL.Image import Image
from torch import Tensor, nn

from atelier.families.checkpoint import Checkpoint, open_checkpoint
from atelier.families.family import Family
from atelier.models.clip import ClipText
from atelier.models.unet import UNet
from atelier.models.vae import AutoencoderKL
from atelier.pipeline.resources import PartOf, T, TextEncoder
from atelier.prompt import Marks
from atelier.request.model import ModelRef
from atelier.runtime.device import Device
from atelier.runtime.heap import settle_heap
from atelier.runtime.store import Destination
from atelier.weights.cast import precision_name
from atelier.weights.tokenizer import ClipTokenizer

M = TypeVar("M", bound=nn.Module)


class Machine:
    """Implements `pipeline.resources.Resources`. Threads may share one.

    keep: whether the parts of the model that was used last stay in memory for the next run; without it a part leaves
    memory as soon as a run has no more use for it.
    """

    def __init__(self, device: Device, *, keep: bool) -> None:
        self._device, self._keep = device, keep
        self._lock = threading.RLock()
        self._checkpoints: dict[str, Checkpoint] = {}
        self._parts: dict[tuple[str, str], object] = {}
        self._users: dict[tuple[str, str], int] = {}

    @property
    def device(self) -> torch.device:
        return self._device.torch_device

    def checkpoint(self, model: ModelRef) -> Checkpoint:
        return self.open(Path(model.path))

    def open(self, path: Path) -> Checkpoint:
        """The headers of the model at `path`, read once. Raises BadFile."""
        with self._lock:
            if str(path) not in self._checkpoints:
                self._checkpoints[str(path)] = open_checkpoint(path)
            return self._checkpoints[str(path)]

    @contextmanager
    def borrow(self, model: ModelRef, part: PartOf[T], /) -> Generator[T]:
        key = (model.path, part.name)
        with self._lock:
            if key not in self._parts:
                self._drop_others(model.path)
                self._parts[key] = LOADERS[part.name](self.checkpoint(model), self._device)
            self._users[key] = self._users.get(key, 0) + 1
            borrowed = cast("T", self._parts[key])
        try:
            yield borrowed
        finally:
            del borrowed
            with self._lock:
                self._users[key] -= 1
                if not self._keep and not self._users[key]:
                    del self._parts[key]

    def dtype(self, model: ModelRef) -> str:
        """The precision that the model's denoiser computes in: fp32, fp16 or bf16."""
        return precision_name(_dtype(self.checkpoint(model), self._device))

    def save(self, image: Image, infotext: str, *, output: str, picture: int, pictures: int, seed: int) -> Path:
        destination = Destination.of(output)
        return destination.save(image, infotext, picture=picture, pictures=pictures, seed=seed)

    def _drop_others(self, path: str) -> None:
        """Forgets the parts of other models that nobody uses now."""
        for key in [k for k in self._parts if k[0] != path and not self._users.get(k)]:
            del self._parts[key]


@dataclass(frozen=True, slots=True)
class _Text:
    """A `TextEncoder`: a family's way to read rows, its tower and its tokenizer."""

    family: Family
    tower: ClipText
    tokenizer: ClipTokenizer

    @property
    def marks(self) -> Marks:
        own = self.tokenizer
        return Marks(own.bos, own.eos, own.pad, own.comma, own.positions - 2)

    def tokenize(self, text: str, /) -> list[int]:
        return self.tokenizer.encode(text)

    def states(self, rows: Sequence[Sequence[int]], clip_skip: int, /) -> Tensor:
        return self.family.encode(self.tower, rows, clip_skip).tokens


def _text(model: Checkpoint, device: Device) -> TextEncoder:
    return _Text(model.family, _placed(model.load_text(_dtype(model, device)), device), model.tokenizer)


def _unet(model: Checkpoint, device: Device) -> UNet:
    return _placed(model.load_unet(_dtype(model, device), channels_last=_lays_out(device)), device)


def _vae(model: Checkpoint, device: Device) -> AutoencoderKL:
    dtype = _dtype(model, device)
    dtype = device.vae_dtype if dtype == device.dtype else dtype
    return _placed(model.load_vae(dtype, channels_last=_lays_out(device)), device)


LOADERS: Mapping[str, Callable[[Checkpoint, Device], object]] = {"text": _text, "unet": _unet, "vae": _vae}


def _dtype(model: Checkpoint, device: Device) -> torch.dtype:
    return device.for_net(sum(prod(shape) for shape in model.parts["unet"].shapes().values()))


def _lays_out(device: Device) -> bool:
    """Whether kernels are laid out while they are read, in one pass; other devices do it faster on their own side."""
    return device.channels_last and device.torch_device.type == "cpu"


def _placed(module: M, device: Device) -> M:
    settle_heap()
    module.to(device.torch_device)
    return module.to(memory_format=torch.channels_last) if device.channels_last else module  # pyright: ignore[reportCallIssue, reportUnknownVariableType] - an overload that torch's stubs lack
