"""A ControlNet that learns beside a model: whole, or as low-rank changes of the model's own encoder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call

from atelier.adapters.control_lora import ControlLora, LowRank, shapes_of
from atelier.checkpoints.text import TextTowers
from atelier.errors import BadFile, BadInput
from atelier.models.controlnet import ControlNet, ControlSpec
from atelier.models.unet import UNet
from atelier.nn.ports import Conditioning, Ports
from atelier.train.data.excerpts import Excerpt, check_proportions, cut, pixels
from atelier.train.data.opening import flat, opened, upright
from atelier.train.optimizers import Group
from atelier.train.teaching.base import Base
from atelier.train.teaching.dropout import Draw
from atelier.vision.annotate import Ready

CACHED = 2**30
"""Bytes of hints that are kept in memory."""
OWN = ("hint.", "outs.", "out_middle.")
"""What the names of layers begin with that the model's encoder does not have."""
DEVIATION = 0.02
"""Of the numbers that the first matrices of low-rank changes begin with; the second ones are 0."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What is read beside each training image: drawn of it, or in a file of the same stem in a folder.

    root: the folder of the training images, below which hints may lie as they do. Hints are remembered, as every epoch
    asks for the same ones unless images are cut at random.
    """

    maker: Ready | None
    options: Mapping[str, float]
    folder: Path | None
    root: Path
    _known: OrderedDict[Excerpt, NDArray[np.uint8]] = field(
        default_factory=OrderedDict[Excerpt, NDArray[np.uint8]], init=False, repr=False, compare=False
    )

    def files(self, images: Iterable[Path]) -> tuple[Path, ...]:
        """Those of these images; none where hints are drawn. Raises BadFile for one that is missing."""
        return () if self.folder is None else tuple(beside(path, self.folder, self.root) for path in images)

    def of(self, excerpt: Excerpt) -> NDArray[np.uint8]:
        """RGB (h, w, 3). Raises BadFile for one that is missing or of other proportions than its image."""
        if excerpt not in self._known:
            self._known[excerpt] = self._made(excerpt)
            size = self._known[excerpt].nbytes
            while len(self._known) > max(1, CACHED // size):
                self._known.popitem(last=False)
        self._known.move_to_end(excerpt)
        return self._known[excerpt]

    def _made(self, excerpt: Excerpt) -> NDArray[np.uint8]:
        if self.maker is not None:
            return np.asarray(self.maker.hint(Image.fromarray(pixels(excerpt)), options=self.options))
        assert self.folder is not None
        path = beside(excerpt.path, self.folder, self.root)
        with opened(path) as image:
            whole = flat(upright(image), "black")
            check_proportions(path, whole.size, excerpt)
            return np.array(cut(whole, excerpt))


def beside(image: Path, folder: Path, root: Path) -> Path:
    """The PNG that belongs to a training image below `root`: it lies as that does below its folder, or straight in it.
    Raises BadFile where it is not there."""
    places = [folder / f"{image.stem}.png"]
    if image.is_relative_to(root):
        places.insert(0, (folder / image.relative_to(root)).with_suffix(".png"))
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise BadFile(places[0], f"is not there: {image} needs one of its name")
    return found


class Learner(Protocol):
    """What learns, as a module: a ControlNet's weights, made of what is trained."""

    def weights(self) -> Mapping[str, Tensor]: ...


class WholeControl(nn.Module):
    """All weights of a ControlNet, which begin as the encoder's, and 0 behind the skip connections."""

    def __init__(self, spec: ControlSpec, base: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.net = begun(spec, base)

    def weights(self) -> dict[str, Tensor]:
        return dict(self.net.named_parameters())


class LowControl(nn.Module):
    """Low-rank changes of the matrices of an encoder, and all of what it does not have."""

    def __init__(self, spec: ControlSpec, base: Mapping[str, Tensor], rank: int, random: torch.Generator) -> None:
        super().__init__()
        net = begun(spec, base)
        shapes = shapes_of(spec)
        self.names = tuple(name for name, shape in shapes.items() if len(shape) >= 2 and not name.startswith(OWN))
        sizes = [(shapes[name][0], shapes[name][1:].numel(), shapes[name][1:]) for name in self.names]
        self.ups = nn.ParameterList(torch.zeros(out, min(rank, out, inner)) for out, inner, _ in sizes)
        self.downs = nn.ParameterList(
            torch.randn(min(rank, out, inner), *shape, generator=random) * DEVIATION for out, inner, shape in sizes
        )
        self.full_names = tuple(name for name in shapes if name.startswith(OWN))
        self.full = nn.ParameterList(net.get_parameter(name).detach().clone() for name in self.full_names)
        self._base = {name: tensor.float() for name, tensor in base.items()}

    @property
    def lora(self) -> ControlLora:
        """As it is written."""
        pairs = zip(self.names, self.ups, self.downs, strict=True)
        low = {name: LowRank(up, down) for name, up, down in pairs}
        return ControlLora(low, dict(zip(self.full_names, self.full, strict=True)))

    def weights(self) -> dict[str, Tensor]:
        return self.lora.weights(self._base)


def begun(spec: ControlSpec, base: Mapping[str, Tensor]) -> ControlNet:
    """A ControlNet that changes nothing yet: the encoder's weights, and 0 in its last layers (section 3.2 of
    arXiv:2302.05543)."""
    net = ControlNet(spec)
    net.load_state_dict({**net.state_dict(), **base})
    for layer in (*net.outs, net.out_middle):
        nn.init.zeros_(layer.get_parameter("weight"))
        nn.init.zeros_(layer.get_parameter("bias"))
    return net


class ControlPupil:
    """A ControlNet beside the base, which stays as it is. rank: of low-rank changes, 0 for all weights; widths: of the
    layers that read the hint. Raises BadInput for a base without a U-Net."""

    reads = False

    def __init__(self, base: Base, hints: Hints, rank: int, widths: tuple[int, ...], seed: int) -> None:
        if not isinstance(base.net, UNet):
            raise BadInput(f"base {base.checkpoint.name}: has no U-Net, and only U-Nets are taught controls")
        self.base, self.hints = base, hints
        self.spec = ControlSpec(base.net.spec, widths)
        torch.manual_seed(seed)
        random = torch.Generator().manual_seed(seed)
        own = encoder_of(base.net, self.spec)
        learner = LowControl(self.spec, own, rank, random) if rank else WholeControl(self.spec, own)
        self.learner: WholeControl | LowControl = learner.to(base.device)
        with torch.device("meta"):
            self._shell = ControlNet(self.spec)

    @property
    def nets(self) -> Mapping[str, nn.Module]:
        return {"control": self.learner}

    @property
    def groups(self) -> tuple[Group, ...]:
        return (Group("control", list(self.learner.parameters())),)

    @contextmanager
    def at_work(self, _draw: Draw | None = None, /) -> Generator[TextTowers]:
        yield self.base.encoder

    def ports(
        self, batch: Sequence[Excerpt], x: Tensor, t: Tensor, cond: Conditioning, _negative: Tensor | None = None
    ) -> Ports:
        """What enters the denoiser beside the captions of a batch, the same in rows of negative prompts."""
        shown = np.stack([self.hints.of(own) for own in batch])
        hint = torch.from_numpy(shown).to(x.device).permute(0, 3, 1, 2).float() / 255
        weights = self.learner.weights()
        embedded = functional_call(self._shell.hint, _below(weights, "hint."), (hint,))
        residuals = functional_call(self._shell, weights, (x.float(), t, in_float(cond), embedded))
        return Ports(residuals=tuple(own.to(x.dtype) for own in residuals))


def in_float(cond: Conditioning) -> Conditioning:
    pooled, channels = (None if own is None else own.float() for own in (cond.pooled, cond.channels))
    return replace(cond, tokens=cond.tokens.float(), pooled=pooled, channels=channels)


def encoder_of(net: UNet, spec: ControlSpec) -> dict[str, Tensor]:
    """The weights of a U-Net that a ControlNet has too, float32."""
    shared = shapes_of(spec).keys()
    return {name: own.detach().float() for name, own in net.state_dict().items() if name in shared}


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): own for name, own in weights.items() if name.startswith(prefix)}
