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

from atelier.errors import BadFile
from atelier.families.checkpoint import Checkpoint, open_checkpoint
from atelier.families.family import Family
from atelier.models.clip import ClipText
from atelier.models.unet import UNet
from atelier.models.vae import AutoencoderKL
from atelier.pipeline.resources import PartOf, T, TextEncoder
from atelier.prompt import Marks
from atelier.request.resolved import ModelRef
from atelier.runtime.cache import ModelCache, NetRef
from atelier.runtime.device import Device
from atelier.runtime.store import Destination, read_image
from atelier.weights.cast import precision_name
from atelier.weights.hashes import HashCache
from atelier.weights.tokenizer import ClipTokenizer

M = TypeVar("M", bound=nn.Module)
Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of each file."""


class LocalResources:
    """Implements `pipeline.resources.Resources` on this machine. Threads may share one.

    budget: bytes of networks that stay in memory between runs; 0: each leaves as soon as a run has no more use for it.
    """

    def __init__(self, device: Device, budget: int) -> None:
        self._device, self.cache = device, ModelCache(budget)
        self._lock = threading.Lock()
        self._opened: dict[Path, tuple[Stamp, Checkpoint]] = {}
        self._checkpoints: dict[ModelRef, Checkpoint] = {}

    @property
    def device(self) -> torch.device:
        return self._device.torch_device

    def checkpoint(self, model: ModelRef) -> Checkpoint:
        """What `refer` named so. Raises BadFile."""
        with self._lock:
            known = self._checkpoints.get(model)
        return known or self.open(Path(model.path))

    def open(self, path: Path) -> Checkpoint:
        """The headers of the model at `path`, read again where a file of it has changed. Raises BadFile."""
        stamp = _stamp(path)
        with self._lock:
            known = self._opened.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        opened = open_checkpoint(path)
        with self._lock:
            self._opened[path] = stamp, opened
        return opened

    def refer(self, name: str, model: Checkpoint, hashes: HashCache) -> ModelRef:
        """Names the model by its weights, so that a run has the same ones to its end. Raises BadFile."""
        reference = ModelRef(name=name, path=str(model.path), sha256=model.sha256(hashes))
        with self._lock:
            self._checkpoints[reference] = model
        return reference

    @contextmanager
    def borrow(self, model: ModelRef, part: PartOf[T], /) -> Generator[T]:
        load = cast("Callable[[Checkpoint, Device], T]", LOADERS[part.name])
        checkpoint = self.checkpoint(model)
        with self.cache.lease(self._ref(model, part), lambda: load(checkpoint, self._device), _bytes) as borrowed:
            yield borrowed

    def is_loaded(self, model: ModelRef, part: PartOf[T], /) -> bool:
        return self.cache.holds(self._ref(model, part))

    def dtype(self, model: ModelRef) -> str:
        """The precision that the model's denoiser computes in: fp32, fp16 or bf16."""
        return precision_name(_dtype(self.checkpoint(model), self._device))

    def image(self, path: Path) -> Image:
        return read_image(path)

    def save(self, image: Image, infotext: str, *, output: str, index: int, count: int, seed: int) -> Path:
        return Destination.of(output).save(image, infotext, index=index, count=count, seed=seed)

    def _ref(self, model: ModelRef, part: PartOf[T]) -> NetRef[T]:
        return NetRef(model, part.name, self.dtype(model))


def _bytes(part: object) -> int:
    """What a part takes in memory: its parameters and buffers."""
    module = part.tower if isinstance(part, _Text) else part
    if not isinstance(module, nn.Module):
        return 0
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def _stamp(path: Path) -> Stamp:
    """What changes with the files of a model. Raises BadFile."""
    try:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        states = [(str(file), file.stat()) for file in files]
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)


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
    module.to(device.torch_device)
    return module.to(memory_format=torch.channels_last) if device.channels_last else module  # pyright: ignore[reportCallIssue, reportUnknownVariableType] - an overload that torch's stubs lack
