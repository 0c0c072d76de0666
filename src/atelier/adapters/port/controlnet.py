"""ControlNets for U-Nets through the port for residuals, from cldm's and diffusers' layouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from atelier.adapters.control_types import CONTROL_TYPES, control_type
from atelier.adapters.hints import called, check_copy, denoiser, encoder_tensors, like, located, settings
from atelier.adapters.steering import Acting, Encode, Prepared, SteeringKind
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile, BadInput, UnknownName
from atelier.families.parts import UNET
from atelier.families.parts.controlnet import NETWORK
from atelier.families.shapes import Shapes
from atelier.models.controlnet import ControlNet, ControlSpec
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.weights.archive import Archive, Stored
from atelier.weights.load import load_into, read
from atelier.weights.names.name import Layout

PREFIXES = ("control_model.", "controlnet.", "")
MARKS: Mapping[str, Layout] = {
    "input_hint_block.0.weight": "ldm",
    "controlnet_cond_embedding.conv_in.weight": "diffusers",
}
DIFFERENCE = "difference"
"""A tensor of this name says that the others are differences from the model's own."""
TASKS: Mapping[str, int] = {
    name: place
    for place, name in sorted((own.union, own.name) for own in CONTROL_TYPES.values() if own.union is not None)
}
"""Types of hints by their place in a union's embedding."""
WHOLE = 12
"""The place of the layer that counts whole where others fade: the middle of Stable Diffusion 1.x. Smaller networks fade
as if they had as many layers, XL's middle to 0.825^3 (A1111's rule)."""
POOLED = "shuffle"
"""What the names of files hold whose residuals count as their mean (A1111's rule)."""


@dataclass(frozen=True, slots=True)
class ReadHint:
    """hint: (N, C, h, w), embedded; task: which kind it is, of a union."""

    hint: Tensor
    task: int | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """A `HintNet`. pooled: residuals count as their mean over the map; bgr: the hint's channels are the other way
    round."""

    net: ControlNet
    pooled: bool = False
    bgr: bool = False

    @property
    def nets(self) -> tuple[ControlNet]:
        return (self.net,)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tasks_of(self.net.spec)

    @property
    def layers(self) -> int:
        return len(self.net.outs) + 1

    @property
    def positive(self) -> bool:
        """A mean over the map says nothing of places: the one that shuffles leaves negative prompts alone, as in A1111
        and diffusers."""
        return self.pooled

    @torch.no_grad()
    def read(self, hint: Tensor, task: str = "", _: Encode | None = None, /) -> ReadHint:
        place = self._place(task)
        hint = like(hint, self.net.conv_in.weight)
        return ReadHint(self.net.embedded(hint.flip(1) if self.bgr else hint, place), place)

    def _place(self, task: str) -> int | None:
        if not self.tasks:
            return None
        if not task:
            raise BadInput(f"this ControlNet reads hints of several kinds: say which ({', '.join(self.tasks)})")
        kind = control_type(task)
        name = task if kind is None else kind.name
        if name not in self.tasks:
            raise UnknownName("kind of hint", task, self.tasks)
        return TASKS[name]

    @torch.no_grad()
    def ports(self, read: ReadHint, x: Tensor, t: Tensor, cond: Conditioning, acting: Acting, /) -> Ports:
        """Raises ValueError for a hint of another size than the image's."""
        if not acting.acts:
            return NOTHING
        factors = acting.factors(self.layers, WHOLE)
        if read.hint.shape[-2:] != x.shape[-2:]:
            raise ValueError(f"a hint of {read.hint.shape[-2:]} positions for a latent of {x.shape[-2:]}")
        rows, hint = len(x), acting.shared(read.hint, len(x))
        told, seamless = acting.told(cond), acting.seamless
        found = self.net(acting.picked(x), acting.picked(t), told, hint, read.task, seamless)
        if self.pooled:
            found = [residual.mean(dim=(2, 3), keepdim=True).expand_as(residual) for residual in found]
        scaled = (residual * factor for residual, factor in zip(found, factors, strict=True))
        return Ports(residuals=tuple(acting.placed(residual, rows) for residual in scaled))


def tasks_of(spec: ControlSpec) -> tuple[str, ...]:
    """The kinds of hints that a union tells apart; none of another ControlNet."""
    return () if spec.union is None else tuple(name for name, place in TASKS.items() if place < spec.union.tasks)


def prepare(archive: Archive, model: Checkpoint) -> Prepared:
    """Raises BadFile for one that is for another U-Net."""
    stored = located(archive, MARKS, PREFIXES, lambda name: name == DIFFERENCE)
    own = denoiser(archive, model)
    spec = NETWORK.infer(Shapes.of(stored), UNET.network.facts(own))
    check_copy(archive, spec.unet, model, whole=DIFFERENCE in archive.tensors)
    if spec.unet.in_channels not in {own.in_channels, own.out_channels}:  # what it makes is a latent
        told = f"sees {spec.unet.in_channels} channels, and {model.name} {own.in_channels}"
        raise BadFile(archive.path, f"{told}: choose one that was made for this model")
    return Prepared(partial(_loaded, stored, model, spec), tasks=tasks_of(spec))


def _loaded(stored: Stored, model: Checkpoint, spec: ControlSpec, dtype: torch.dtype) -> Control:
    archive = stored.archive
    differs = DIFFERENCE in archive.tensors
    tensors = read(stored, NETWORK.names(spec), dtype=torch.float32 if differs else dtype, mapped=False)
    if differs:
        base = encoder_tensors(model, spec.unet.in_channels)
        tensors |= {name: tensors[name] + base[name] for name in base.keys() & tensors.keys()}
    net = load_into(lambda: ControlNet(spec), tensors, dtype=dtype, source=archive.path)
    return Control(net, *_said(archive))


def _said(archive: Archive) -> tuple[bool, bool]:
    """Whether residuals count as their mean, and whether the hint's channels are the other way round."""
    config = settings(archive)
    if config is None:
        return POOLED in called(archive), False
    order = config.choice("controlnet_conditioning_channel_order", ("rgb", "bgr"))
    return config.flag("global_pool_conditions", default=False), order == "bgr"


SPECS = (SteeringKind("ControlNet", "controlnet", prepare, variants=("base", "small", "union", "union_promax")),)
