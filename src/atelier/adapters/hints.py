"""What kinds of networks that read a hint have in common: where their tensors lie, and whether they fit a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.folder import NETWORK_STEM
from atelier.checkpoints.kind import WRAPPER
from atelier.errors import BadFile
from atelier.families.config import Config
from atelier.families.parts import UNET
from atelier.models.unet import UNetSpec
from atelier.weights.archive import WAY_OUT, Archive, Stored
from atelier.weights.names.name import Layout
from atelier.weights.names.unet import encoder

CONFIG = "config.json"
ALIKE = ("widths", "blocks", "depth", "mid_depth", "context", "vector")
"""What a copy of an encoder has in common with it."""


def _nothing(_: str) -> bool:
    return False


def located(
    archive: Archive,
    marks: Mapping[str, Layout],
    prefixes: Sequence[str] = ("",),
    tolerated: Callable[[str], bool] = _nothing,
) -> Stored:
    """Where a network lies in a file, behind whichever prefix. marks: a name that only one layout has. Raises
    BadFile."""
    for prefix in _prefixes(prefixes):
        for mark, layout in marks.items():
            if prefix + mark in archive.tensors:
                return Stored(archive, layout, prefix, tolerated)
    raise BadFile(archive.path, f"lacks {next(iter(marks))}; {WAY_OUT}")


def _prefixes(prefixes: Sequence[str]) -> Iterator[str]:
    for wrapper in ("", WRAPPER):
        for prefix in prefixes:
            yield wrapper + prefix


def settings(archive: Archive) -> Config | None:
    """What lies beside weights that diffusers wrote. Raises BadFile."""
    file = archive.path
    beside = file.parent / CONFIG
    return Config.read(beside) if file.name.startswith(NETWORK_STEM) and beside.is_file() else None


def called(archive: Archive) -> str:
    """The name of a file, or that of its folder where diffusers named the file; in small letters."""
    file = archive.path
    return (file.parent.name if file.name.startswith(NETWORK_STEM) else file.stem).casefold()


def denoiser(archive: Archive, model: Checkpoint) -> UNetSpec:
    """The U-Net that a file is to steer. Raises BadFile for a model without one."""
    if not model.has(UNET):
        raise BadFile(archive.path, f"is for U-Nets, and {model.name} is {model.family.title}, which has none")
    return model.spec(UNET)


def check_copy(archive: Archive, own: UNetSpec, model: Checkpoint, *, whole: bool) -> None:
    """Raises BadFile for a copy of another encoder than the model's. whole: whether all of its transformers have to be
    there; some for XL have fewer, or none."""
    theirs = denoiser(archive, model)
    compared = theirs if whole else _cut(theirs, own)
    for what in ALIKE:
        mine, needed = getattr(own, what), getattr(theirs, what)
        if mine != getattr(compared, what):
            sizes = f"{what} {_told(mine)}, and {model.name} has {_told(needed)}"
            raise BadFile(archive.path, f"is for U-Nets with {sizes}: choose one that was made for this model")


def _cut(unet: UNetSpec, own: UNetSpec) -> UNetSpec:
    """With no more transformers than another has; what has none reads no text."""
    if len(own.depth) != len(unet.depth):
        return unet
    depth = tuple(map(min, own.depth, unet.depth))
    return replace(
        unet, depth=depth, mid_depth=min(own.mid_depth, unet.mid_depth), context=own.context and unet.context
    )


def _told(value: object) -> str:
    return str(value).strip("()").removesuffix(",")


def encoder_tensors(model: Checkpoint, channels: int) -> dict[str, Tensor]:
    """The encoder of the model's U-Net by our names, float32; of a first layer with more channels, the first ones."""
    tensors, spec = model.tensors(UNET), model.spec(UNET)
    own = {name.ours: tensors[name.ours].float() for name in encoder(spec)}
    return own | {"conv_in.weight": own["conv_in.weight"][:, :channels]}


def whole(hint: Tensor, side: int) -> Tensor:
    """A hint (N, K, H, W) with as many more rows and columns, as its last ones are, as make its sides multiples."""
    down, right = -hint.shape[-2] % side, -hint.shape[-1] % side
    return F.pad(hint, (0, right, 0, down), mode="replicate") if down or right else hint


def like(hint: Tensor, weight: Tensor) -> Tensor:
    """A hint where a network computes and in its precision."""
    return hint.to(weight.device, weight.dtype if weight.is_floating_point() else torch.float32)
