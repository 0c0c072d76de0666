"""ControlNets for the transformer of Stable Diffusion 3 through the port for residuals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from atelier.adapters.hints import called, like, located, settings
from atelier.adapters.steering import Acting, Encode, Prepared, SteeringKind
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile
from atelier.families.facts import LatentFormat
from atelier.families.parts.mmdit import MMDIT
from atelier.families.parts.mmdit_control import HINT, infer
from atelier.families.shapes import Shapes
from atelier.models.mmdit_control import TransformerControl, TransformerControlSpec
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.nn.tokens import to_map, to_tokens
from atelier.weights.archive import Archive, Stored
from atelier.weights.load import load_into, read
from atelier.weights.names.mmdit_control import names
from atelier.weights.names.name import Layout

MARKS: Mapping[str, Layout] = {"transformer_blocks.0.adaLN_modulation.1.weight": "ldm", HINT: "diffusers"}
TYPE = "control_type"
"""A tensor in Stability AI's files: what their hints are."""
CANNY = 1
"""Of edges, by that number, or by the name of a file or folder."""
ALIKE = ("width", "patch", "pooled", "context", "in_channels")
"""What it has in common with the transformer."""
TOKENS = ("patch_embedding.weight", "patch_embedding.bias", "positions")
"""What those take from the transformer that have no tokens of their own."""


@dataclass(frozen=True, slots=True)
class Hinted:
    """tokens: (N, T, C) of the hint; grid: rows and columns of them."""

    tokens: Tensor
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Control:
    """A `HintNet`. form: of the model's latents; plain: whether the hint's is not shifted and the pooled vector not
    read, as of the first ones (InstantX's); bytes: whether the autoencoder sees half of the hint's bytes in place of
    [-1, 1], as Stability AI's for edges was trained."""

    net: TransformerControl
    form: LatentFormat
    plain: bool
    bytes: bool = False
    tasks: tuple[str, ...] = ()
    positive: bool = False

    @property
    def nets(self) -> tuple[TransformerControl]:
        return (self.net,)

    @property
    def layers(self) -> int:
        return len(self.net.outs)

    @torch.no_grad()
    def read(self, hint: Tensor, _: str = "", encode: Encode | None = None, /) -> Hinted:
        """The hint is read as a latent. Raises ValueError without `encode`."""
        if encode is None:
            raise ValueError("this network reads its hint as a latent: give the model's encoder")
        weight, patch = self.net.hint_embedding.weight, self.net.spec.mmdit.patch
        latent, form = like(encode(hint * 255 * 0.5 + 0.5 if self.bytes else hint * 2 - 1), weight), self.form
        scaled = latent * form.scale if self.plain else form.scaled(latent)
        grid = (-(-latent.shape[-2] // patch), -(-latent.shape[-1] // patch))
        return Hinted(self.net.embedded(scaled), grid)

    @torch.no_grad()
    def ports(self, read: Hinted, x: Tensor, t: Tensor, cond: Conditioning, acting: Acting, /) -> Ports:
        """Raises ValueError for a hint of another size than the image's."""
        if not acting.acts:
            return NOTHING
        factors, patch = acting.factors(self.layers), self.net.spec.mmdit.patch
        if read.grid != (-(-x.shape[-2] // patch), -(-x.shape[-1] // patch)):
            raise ValueError(f"a hint of {read.grid} tokens for a latent of {tuple(x.shape[-2:])}")
        rows, hint, told = len(x), acting.shared(read.tokens, len(x)), acting.told(cond)
        if self.plain and told.pooled is not None:
            told = replace(told, pooled=torch.zeros_like(told.pooled))
        found = self.net(acting.picked(x), acting.picked(t), told, hint)
        scaled = (to_map(residual * factor, read.grid) for residual, factor in zip(found, factors, strict=True))
        return Ports(residuals=tuple(to_tokens(acting.placed(residual, rows)) for residual in scaled))


def prepare(archive: Archive, model: Checkpoint) -> Prepared:
    """Raises BadFile for one that is for another transformer."""
    stored = located(archive, MARKS, tolerated=_unused)
    if not model.has(MMDIT):
        raise BadFile(archive.path, f"is for Stable Diffusion 3, and {model.name} is {model.family.title}")
    spec = infer(Shapes.of(stored), model.spec(MMDIT))
    _check(archive, spec, model)
    return Prepared(partial(_loaded, stored, spec, model))


def _loaded(stored: Stored, spec: TransformerControlSpec, model: Checkpoint, dtype: torch.dtype) -> Control:
    archive = stored.archive
    tensors = read(stored, names(spec), dtype=dtype, mapped=False)
    if not spec.joint:
        whole = model.tensors(MMDIT)
        tensors |= {name: whole[name].to(dtype) for name in TOKENS}
    net = load_into(lambda: TransformerControl(spec), tensors, source=archive.path)
    config = settings(archive)
    plain = spec.joint if config is None else config.flag("force_zeros_for_pooled_projection", default=True)
    return Control(net, model.latent, plain, bytes=not spec.joint and _is_of_edges(archive))


def _unused(name: str) -> bool:
    """What lies in Stability AI's files and is not the network's: it takes the model's tokens."""
    return name.endswith(TYPE) or "x_embedder." in name


def _is_of_edges(archive: Archive) -> bool:
    if TYPE in archive.tensors:
        return int(archive.load([TYPE])[TYPE].item()) == CANNY
    return "canny" in called(archive)


def _check(archive: Archive, spec: TransformerControlSpec, model: Checkpoint) -> None:
    theirs = model.spec(MMDIT)
    for what in ALIKE:
        mine, needed = getattr(spec.mmdit, what), getattr(theirs, what)
        if mine != needed:
            sizes = f"{what} {mine}, and {model.name} has {needed}"
            raise BadFile(archive.path, f"is for transformers with {sizes}: choose one that was made for this model")
    if spec.channels != model.latent.channels:
        told = f"reads {spec.channels} channels, where a hint's latent has {model.latent.channels}"
        raise BadFile(archive.path, f"{told}: ControlNets that read a mask too cannot be used yet")


SPECS = (
    SteeringKind("SD3 ControlNet", "controlnet", prepare, variants=("medium", "3.5-large", "3.5-large-stability")),
)
