"""What a run needs, on this machine: parts of models in memory, images to disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from PIL.Image import Image
from torch import nn

from atelier.adapters.photomaker import open_photomaker
from atelier.adapters.steering import open_steering
from atelier.checkpoints.assembling import assembled
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.folder import INDEX, NETWORK_STEM, TRANSFORMERS_STEM, archive_in
from atelier.checkpoints.image_encoder import ImageEncoder, open_image_encoder, own_image_encoder
from atelier.checkpoints.image_text import ImageText, image_text
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.probing import settled
from atelier.checkpoints.text import TextEncoder, text_encoder
from atelier.checkpoints.tiny_autoencoder import check_suits, find_tiny, is_tiny, load_tiny, tiny_beside
from atelier.errors import BadFile, BadInput
from atelier.families.family import Family
from atelier.families.part import PartSpec
from atelier.models.taesd import TinyAutoencoder
from atelier.models.vae import AutoencoderKL
from atelier.nn.net import Net
from atelier.pipeline.resources import (
    ANNOTATOR,
    AUTOENCODER,
    DENOISER,
    DEPTH,
    FACES,
    IMAGE_TEXT,
    IMAGES,
    PERSON,
    PLAIN,
    TEXT,
    TINY,
    UPSCALER,
    Adapted,
    PartOf,
    Steering,
    T,
    networks,
)
from atelier.request.resolved import ImageRef, ModelRef, NetworkRef, PartRef, PartRole
from atelier.runtime.adapting import with_inversions, with_merged
from atelier.runtime.cache import ModelCache, NetRef
from atelier.runtime.device import Device, free_memory
from atelier.runtime.images import Images, LocalImages
from atelier.runtime.store import Destination
from atelier.runtime.upscalers import UpscalerFile
from atelier.vision.annotate import Ready, annotator, ready
from atelier.vision.catalogue import architecture, open_upscaler
from atelier.vision.depth import DepthEstimator, estimator_in, open_estimator
from atelier.vision.faces import FaceReader, open_faces
from atelier.vision.networked import Networked
from atelier.vision.onnx import SUFFIX
from atelier.weights.archive import open_any
from atelier.weights.cast import precision_name
from atelier.weights.formats.safetensors import FLOATS
from atelier.weights.hashes import HashCache, files_sha256

M = TypeVar("M", bound=nn.Module)
ROLES: Mapping[str, PartRole] = {
    AUTOENCODER.name: "autoencoder",
    TINY.name: "tiny autoencoder",
    TEXT.name: "text encoder",
}
"""Which parts of models another file changes: the others are the same network with it and without."""
CHANGED = "has changed since the request was resolved; resolve it again"
Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of each file."""


@dataclass(frozen=True, slots=True)
class Others:
    """Where parts of a model are taken from in place of its own."""

    vae: Path | None = None
    text_encoders: tuple[Path, ...] = ()
    tiny: Path | None = None

    @classmethod
    def of(cls, model: ModelRef) -> Others:
        found: Mapping[PartRole, list[Path]] = {role: [] for role in ROLES.values()}
        for part in model.parts:
            found[part.role].append(Path(part.path))
        vae, tiny = (next(iter(found[role]), None) for role in (ROLES[AUTOENCODER.name], ROLES[TINY.name]))
        return cls(vae, tuple(found[ROLES[TEXT.name]]), tiny)

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for _, path in self.by_role())

    def by_role(self) -> Iterator[tuple[PartRole, Path]]:
        if self.vae is not None:
            yield "autoencoder", self.vae
        if self.tiny is not None:
            yield "tiny autoencoder", self.tiny
        for path in self.text_encoders:
            yield "text encoder", path


OWN = Others()
"""All of its own."""


class LocalResources:
    """Implements `pipeline.resources.Resources` on this machine. Threads may share one.

    budget: bytes of networks that stay in memory between runs; 0: each leaves as soon as a run has no more use for it.
    families: those of the models that are opened, None = all there are. hashes: remembers what files hash to. images:
    where those are that requests start from.
    """

    def __init__(
        self,
        device: Device,
        budget: int,
        families: Iterable[Family] | None = None,
        hashes: HashCache | None = None,
        images: Images | None = None,
    ) -> None:
        self._device, self.cache = device, ModelCache(budget)
        self.images = images or LocalImages()
        self._families = None if families is None else tuple(families)
        self._hashes = hashes or HashCache()
        self._lock = threading.Lock()
        self._opened: dict[tuple[Path, Others], tuple[Stamp, Checkpoint]] = {}
        self._checkpoints: dict[ModelRef, Checkpoint] = {}

    @property
    def device(self) -> torch.device:
        return self._device.torch_device

    @property
    def hashes(self) -> HashCache:
        return self._hashes

    def checkpoint(self, model: ModelRef) -> Checkpoint:
        """What `refer` named so, or what lies at its path now. Raises BadFile, also where that has other weights.

        Where what was named so has other weights now, or is gone, what is known of it stays: a run whose networks are
        in memory goes on to its end.
        """
        with self._lock:
            known = self._checkpoints.get(model)
        try:
            return self.verified(model)
        except BadFile:
            if known is None:
                raise
            return known

    def verified(self, model: ModelRef) -> Checkpoint:
        """What lies at its path now, opened anew where it was touched, or replaced by equal files. Raises BadFile where
        it has other weights."""
        with self._lock:
            known = self._checkpoints.get(model)
        found = self.open(Path(model.path), Others.of(model))
        if found is known:
            return found
        if self._hash(found, model.parts) != model.sha256:
            raise BadFile(model.path, CHANGED)
        for part in model.parts:
            if self._hash_at(found, Path(part.path)) != part.sha256:
                raise BadFile(part.path, CHANGED)
        with self._lock:
            self._checkpoints[model] = found
        return found

    def open(self, path: Path, others: Others = OWN) -> Checkpoint:
        """The headers of the model at `path`, with parts from other files, read again where a file of it has changed;
        also its denoising network, where they leave open what it predicts. Raises BadFile."""
        key, stamp = (path, others), tuple(own for file in (path, *others.paths) for own in _stamp(file))
        with self._lock:
            known = self._opened.get(key)
        if known is not None and known[0] == stamp:
            return known[1]
        if others.vae is None and not others.text_encoders:
            opened = settled(open_checkpoint(path, known=self._families))
        else:
            opened = settled(assembled(path, others.vae, others.text_encoders))
        if others.tiny is not None:
            check_suits(others.tiny, opened)
        with self._lock:
            self._opened[key] = stamp, opened
        return opened

    def refer(self, name: str, model: Checkpoint, others: Others = OWN) -> ModelRef:
        """Names the model by its weights, so that a run has the same ones to its end. Raises BadFile."""
        parts = tuple(
            PartRef(role=role, name=_part_name(model, role, path), path=str(path), sha256=self._hash_at(model, path))
            for role, path in others.by_role()
        )
        sha256 = self._hash(model, parts)
        reference = ModelRef(name=name, path=str(model.path), sha256=sha256, parts=parts)
        with self._lock:
            self._checkpoints[reference] = model
        return reference

    def _hash(self, model: Checkpoint, parts: tuple[PartRef, ...]) -> str:
        """Of the model as it lies there, whatever of it is not taken."""
        if not parts:
            return model.sha256(self._hashes)
        whole = self.open(model.path).files if model.path.is_dir() else (model.path,)
        return files_sha256(whole, model.path, self._hashes)

    def _hash_at(self, model: Checkpoint, path: Path) -> str:
        """Of the files at a path that parts of the model are taken from."""
        archives = [part.archive for part in model.parts.values()]
        if is_tiny(path):
            archives = [part.archive for part in find_tiny(path).values()]
            return files_sha256(dict.fromkeys(file for own in archives for file in own.files), path, self._hashes)
        files = dict.fromkeys(file for archive in archives for file in archive.files)
        own = tuple(file for file in files if file == path or path in file.parents)
        return files_sha256(own, path, self._hashes)

    def refer_upscaler(self, found: UpscalerFile) -> ModelRef:
        """Names the file of an upscaler by what is in it. Raises BadFile for one that is none."""
        architecture(found.path)
        return ModelRef(name=found.name, path=str(found.path), sha256=self._hashes.sha256(found.path))

    @contextmanager
    def borrow(self, model: ModelRef, part: PartOf[T], adapted: Adapted = PLAIN, /) -> Generator[T]:
        load, base = partial(self._load, model, part, adapted), self._ref(model, part, PLAIN)
        ref = self._ref(model, part, adapted)
        if ref == base:
            lease = self.cache.lease(ref, load, bytes_of)
        else:
            lease = self.cache.lease(ref, load, partial(self._added, model, part), base)
        with lease as borrowed:
            yield with_inversions(borrowed, adapted.inversions, self._hashes)

    def _added(self, model: ModelRef, part: PartOf[T], changed: T) -> int:
        """Bytes that a changed part has beside those that it shares with the plain one."""
        with self.borrow(model, part) as plain:
            return bytes_of(changed, plain)

    def _load(self, model: ModelRef, part: PartOf[T], adapted: Adapted) -> T:
        """Raises BadFile."""
        if part.name == UPSCALER.name:
            return cast("T", self._upscaler(model))
        checkpoint = self.checkpoint(model)
        if part.file is not None:
            return cast("T", self._beside(part.file, part.name, checkpoint))
        if part.name == IMAGES:
            return cast("T", self._own_encoder(checkpoint))
        if part.name == TINY.name:
            return cast("T", _tiny(Others.of(model).tiny or tiny_beside(checkpoint), checkpoint, self._device))
        if not adapted.merged:
            self._check_room(checkpoint, part.name)
            return cast("Callable[[Checkpoint, Device], T]", LOADERS[part.name])(checkpoint, self._device)
        with self.borrow(model, part) as plain:
            return with_merged(plain, checkpoint, part, adapted.merged, self._hashes)

    def _check_room(self, model: Checkpoint, role: str) -> None:
        """Makes room for networks. Raises BadInput where there is not enough memory for them: the system would end the
        process, or slow down to a crawl."""
        needed, free = forecast(model, role, self._device), free_memory(self.device)
        if free is not None and needed > free:
            self.cache.free(needed - free)
            free = free_memory(self.device)
        if free is None or needed <= free:
            return
        told = f"{model.name}: its {role} needs {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free"
        half = "set ATELIER_DTYPE=bf16, " if _dtype(model, self._device) == torch.float32 else ""
        raise BadInput(f"{told}: {half}end other programs, or choose a smaller model")

    def _beside(self, file: NetworkRef, role: str, model: Checkpoint) -> object:
        """A network in a file of its own. Raises BadFile."""
        path = Path(file.path)
        if self.hash_of(path) != file.sha256:
            raise BadFile(path, CHANGED)
        if role == FACES:
            return open_faces(path)
        if role == PERSON:
            return _placed(open_photomaker(path, model, _dtype(model, self._device)), self._device)
        if role == ANNOTATOR:
            return ready(annotator(file.name), lambda _: path, self.device)
        if role == IMAGES:
            encoder = open_image_encoder(path, _dtype(model, self._device))
            return replace(encoder, net=_placed(encoder.net, self._device))
        net = open_steering(path, model, _dtype(model, self._device))
        for own in net.nets:
            _placed(own, self._device)
        return Steering(net)

    def _own_encoder(self, model: Checkpoint) -> ImageEncoder:
        encoder = own_image_encoder(model, _dtype(model, self._device))
        return replace(encoder, net=_placed(encoder.net, self._device))

    def hash_of(self, path: Path) -> str:
        """SHA-256 (hex) of the file of a network, or of all files of a folder with one, or with those that find
        faces."""
        found = tuple(path.glob(f"*{SUFFIX}")) if path.is_dir() else (path,) * (path.suffix == SUFFIX)
        if found:
            return files_sha256(found, path, self._hashes)
        archive = archive_in(path, _stem(path)) if path.is_dir() else open_any(path)
        return files_sha256(archive.files, path, self._hashes)

    def _upscaler(self, model: ModelRef) -> Networked:
        if self._hashes.sha256(Path(model.path)) != model.sha256:
            raise BadFile(model.path, CHANGED)
        return open_upscaler(Path(model.path), self.device, self._device.image_dtype, name=model.name)

    def is_loaded(self, model: ModelRef, part: PartOf[T], adapted: Adapted = PLAIN, /) -> bool:
        return self.cache.holds(self._ref(model, part, adapted))

    def dtype(self, model: ModelRef) -> str:
        """The precision that the model's denoiser computes in: fp32, fp16 or bf16."""
        return precision_name(_dtype(self.checkpoint(model), self._device))

    def image(self, image: ImageRef) -> Image:
        return self.images.read(image)

    def save(self, image: Image, infotext: str, *, output: str, index: int, count: int, seed: int) -> Path:
        return Destination.of(output).save(image, infotext, index=index, count=count, seed=seed)

    def _ref(self, model: ModelRef, part: PartOf[T], adapted: Adapted) -> NetRef[T]:
        is_whole = part.name == UPSCALER.name
        dtype = precision_name(self._device.image_dtype) if is_whole else self.dtype(model)
        kept = model.parts if part.file else tuple(own for own in model.parts if own.role == ROLES.get(part.name))
        return NetRef(model.model_copy(update={"parts": kept}), part.name, dtype, adapted.merged, part.file)


def _stem(folder: Path) -> str:
    """What the weights in a folder are called: diffusers' name, or that of transformers, whose annotators are read."""
    return NETWORK_STEM if any(folder.glob(f"{NETWORK_STEM}*")) else TRANSFORMERS_STEM


def _part_name(model: Checkpoint, role: PartRole, path: Path) -> str:
    """What infotexts call it: a tiny autoencoder that is found without its path by what its author calls it."""
    beside = tiny_beside(model) if role == ROLES[TINY.name] else None
    return model.family.tiny if beside == path and model.family.tiny else path.name


def bytes_of(part: object, beside: object = None) -> int:
    """What a part takes in memory: the parameters and buffers of its networks, without those that it shares with
    another; of what onnxruntime holds, about as much as its files."""
    shared, foreign = _places(beside), part.bytes if isinstance(part, (Ready, FaceReader)) else 0
    return foreign + sum(size for address, size in _places(part).items() if address not in shared)


def _places(part: object) -> dict[int, int]:
    """The address of each tensor -> its bytes."""
    tensors = (tensor for net in networks(part) for tensor in (*net.parameters(), *net.buffers()))
    return {tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in tensors}


def _stamp(path: Path) -> Stamp:
    """What changes with the files of a model: of a folder its own and those of its subfolders, which hold the parts.

    What cannot be looked at, such as a link that leads nowhere, is left to those who read it. Raises BadFile for the
    path itself.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    if not path.is_dir() or not (path / INDEX).is_file():
        return ((str(path), state.st_size, state.st_mtime_ns),)
    files = sorted((*path.glob("*"), *path.glob("*/*")))
    return tuple(stamp for file in files for stamp in _stamp_of(file))


def _stamp_of(file: Path) -> Stamp:
    try:
        state = file.stat()
    except OSError:
        return ()
    return ((str(file), state.st_size, state.st_mtime_ns),)


def _text(model: Checkpoint, device: Device) -> TextEncoder:
    def placed(net: M, /) -> M:
        return _placed(net, device)

    return text_encoder(model, _dtype(model, device), placed=placed, mapped=False)


def _denoiser(model: Checkpoint, device: Device) -> Net:
    part = _required(model, model.family.denoiser)
    loaded = model.load(part, _dtype(model, device), mapped=False, channels_last=_lays_out(device))
    return _placed(loaded, device)


def _autoencoder(model: Checkpoint, device: Device) -> AutoencoderKL:
    part, dtype = _required(model, model.family.autoencoder), _autoencoder_dtype(model, device)
    return _placed(model.load(part, dtype, mapped=False, channels_last=_lays_out(device)), device)


def _autoencoder_dtype(model: Checkpoint, device: Device) -> torch.dtype:
    dtype = _dtype(model, device)
    return device.vae_dtype if dtype == device.dtype else dtype


def _image_text(model: Checkpoint, device: Device) -> ImageText:
    found = image_text(model, _dtype(model, device))
    return ImageText(_placed(found.vision, device), _placed(found.joint, device))


def _tiny(path: Path | None, model: Checkpoint, device: Device) -> TinyAutoencoder:
    if path is None:
        raise BadFile(model.path, "has no tiny autoencoder beside it any more")
    return _placed(load_tiny(path, _dtype(model, device)), device)


def _depth(model: Checkpoint, device: Device) -> DepthEstimator:
    path = estimator_in(model.path)
    if path is None:
        raise BadFile(model.path, "has no estimator of depths any more: give --depth")
    return open_estimator(path, device.torch_device)


def _required(model: Checkpoint, name: str) -> PartSpec[Any, Any]:
    """A part that the family says its models have."""
    part = model.family.part(name)
    assert part is not None, f"the family {model.family.name} has no part {name}"
    return part


# A network is never mapped from its file: cut short while it is used, the file would end the process.
LOADERS: Mapping[str, Callable[[Checkpoint, Device], object]] = {
    TEXT.name: _text,
    DENOISER.name: _denoiser,
    AUTOENCODER.name: _autoencoder,
    IMAGE_TEXT.name: _image_text,
    DEPTH.name: _depth,
}
"""By role."""


def forecast(model: Checkpoint, role: str, device: Device) -> int:
    """Bytes that the networks of a role take once they are loaded; 0 for those that are small."""
    family, dtype = model.family, _dtype(model, device)
    names: Mapping[str, tuple[str, ...]] = {
        TEXT.name: tuple(tower.part.name for tower in model.towers),
        DENOISER.name: (family.denoiser,),
        AUTOENCODER.name: (family.autoencoder,),
    }
    item = (_autoencoder_dtype(model, device) if role == AUTOENCODER.name else dtype).itemsize
    infos = (info for name in names.get(role, ()) for info in model.parts[name].infos().values())
    return sum(info.count * item if info.dtype in FLOATS else info.bytes for info in infos)


def denoiser_weights(model: Checkpoint) -> int:
    """How many numbers the denoiser has."""
    return model.numbers(model.family.denoiser)


def _dtype(model: Checkpoint, device: Device) -> torch.dtype:
    return device.for_net(denoiser_weights(model))


def _lays_out(device: Device) -> bool:
    """Whether kernels are laid out while they are read, in one pass; other devices do it faster on their own side."""
    return device.channels_last and device.torch_device.type == "cpu"


def _placed(module: M, device: Device) -> M:
    """What was read is on the CPU, and asking thousands of tensors where they are takes a while."""
    if device.torch_device.type != "cpu":
        module.to(device.torch_device)
    return module.to(memory_format=torch.channels_last) if device.channels_last else module  # pyright: ignore[reportCallIssue, reportUnknownVariableType] - an overload that torch's stubs lack
