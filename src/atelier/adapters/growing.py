"""A new weight adapter for training: its tensors as parameters, and the changes that they are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from atelier.adapters import dora
from atelier.adapters.attach import Changes, How, Strong
from atelier.adapters.delta import WEIGHT, Delta, Shape, Size, WeightKind, as_matrix
from atelier.adapters.read import NUMBERS, AdapterLayer, built, kinds
from atelier.adapters.spelling import FLAT_DENOISER, Module, flat_name, modules
from atelier.adapters.targets import shapes_of
from atelier.adapters.weight.lora import LowRank
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadInput, UnknownName
from atelier.families.family import whole
from atelier.families.part import PartSpec
from atelier.weights.names.name import Name

TABLES = re.compile(r"(?:^|\.)(?:(?:token|position|class)_embedding|shared|relative_attention_bias)$")
"""diffusers' names of layers that are looked up, not multiplied."""


@dataclass(frozen=True, slots=True)
class Place:
    """A layer that gets an adapter. name: what kohya's scripts call it; path: what diffusers does; module: in our
    network; shape: of its weight."""

    name: str
    path: str
    part: str
    module: str
    shape: Shape

    @property
    def is_kernel(self) -> bool:
        """Whether it is a convolution that is larger than a point."""
        return math.prod(self.shape[2:]) > 1


def places(model: Checkpoint, part: PartSpec[Any, Any], patterns: Sequence[str]) -> tuple[Place, ...]:
    """The layers of a part in whose names (diffusers') one of the regular expressions is found.

    Raises BadInput for one that is none, or that no layer has.
    """
    known = tuple(_places(model, part))
    chosen: set[str] = set()
    for pattern in patterns:
        found = {place.name for place in known if expression(pattern).search(place.path)}
        if not found:
            example = known[0].path
            raise BadInput(f"target {pattern!r}: no layer of the {part.title} has that in its name, such as {example}")
        chosen |= found
    return tuple(place for place in known if place.name in chosen)


def _places(model: Checkpoint, part: PartSpec[Any, Any]) -> Iterator[Place]:
    names = tuple(part.network.names(model.spec(part)))
    shapes, unread = shapes_of(model, part, names), _unread(model, part, names)
    for module in modules(names):
        shape, path = shapes[module.ours].get(WEIGHT, ()), module.diffusers[0]
        if len(shape) > 1 and module.halves is None and not TABLES.search(path) and module.ours not in unread:
            yield Place(_name(module, part, model), path, part.name, module.ours, shape)


def _unread(model: Checkpoint, part: PartSpec[Any, Any], names: Sequence[Name]) -> frozenset[str]:
    """The layers at the end of a text encoder that other programs leave out, since nothing is read from them: those of
    2.x, whose files may lack them. XL's they keep."""
    tower = next((tower for tower in model.towers if tower.part.name == part.name), None)
    if tower is None or tower.cut_off is whole or not tower.normed:
        return frozenset()
    spec = model.spec(part)
    kept = spec.layers + tower.cut_off(spec) - (tower.least_skip - 1)
    beginnings = tuple(f"layers.{number}." for number in range(kept, spec.layers))
    return frozenset(module.ours for module in modules(names) if module.ours.startswith(beginnings))


def _name(module: Module, part: PartSpec[Any, Any], model: Checkpoint) -> str:
    """kohya's name; a layer that a denoiser's single files keep together with others goes by its own, diffusers'."""
    if module.rows is not None and part.name == model.family.denoiser:
        return FLAT_DENOISER[0] + module.diffusers[0].replace(".", "_")
    return flat_name(module, part, model.family)


def expression(pattern: str) -> re.Pattern[str]:
    """Of a target. Raises BadInput for what is none."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BadInput(f"target {pattern!r}: is no regular expression ({error})") from error


@dataclass(frozen=True, slots=True)
class Growth:
    """What is grown: a kind by its name; its size, that of convolutions larger than a point, None: they get none; with
    lengths of the output channels (DoRA) or without."""

    kind: str = "LoRA"
    size: Size = field(default_factory=Size)
    kernels: Size | None = None
    lengths: bool = False


class Dropping(Protocol):
    """What is left out of an adapter in a step of its training. Layers go by their names in files."""

    def whole(self, layer: str, /) -> bool:
        """Whether the adapter of a layer does nothing."""
        ...

    def hidden(self, layer: str, hidden: Tensor, /) -> Tensor:
        """What is left of the activations of LoRA's ranks."""
        ...


class Growing(nn.Module):
    """The adapter. Its parameters are called NAME.SLOT; numbers that are not trained are buffers.

    weights: of the layers, by (part, module), where the lengths begin. Raises BadInput for a kind that cannot be
    trained, for a rank that no layer has, and where no layer is left.
    """

    def __init__(
        self,
        chosen: Sequence[Place],
        growth: Growth,
        random: torch.Generator,
        weights: Mapping[tuple[str, str], Tensor],
    ) -> None:
        super().__init__()
        self.kind = trainable(growth.kind)
        self.places = tuple(place for place in chosen if growth.kernels is not None or not place.is_kernel)
        _check(self.places, growth)
        self.is_beside = self.kind.beside and not growth.lengths
        self.layers = nn.ModuleDict()
        for place in self.places:
            size = growth.kernels if place.is_kernel and growth.kernels is not None else growth.size
            assert self.kind.new is not None
            tensors = self.kind.new(place.shape, size, random)
            if growth.lengths:
                tensors[dora.SCALE] = dora.lengths_of(weights[place.part, place.module])
            self.layers[place.name] = _layer(tensors)

    @property
    def how(self) -> How:
        """How training attaches it."""
        return "hook" if self.is_beside else "fold"

    def changes(self, part: str, dropping: Dropping | None = None) -> Changes:
        """What it adds to the parameters of a part, as it is now, without what is dropped; gradients reach the
        parameters."""
        made: dict[str, Sequence[Strong]] = {}
        for place in self.places:
            if place.part == part and not (dropping is not None and dropping.whole(place.name)):
                deltas = built(AdapterLayer(self.kind, {}), _tensors(self.layers[place.name]))
                if dropping is not None:
                    deltas = {name: _dropped(delta, dropping, place.name) for name, delta in deltas.items()}
                made |= {f"{place.module}.{name}": (Strong(delta, 1.0),) for name, delta in deltas.items()}
        return made

    def file(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a file of it holds, in kohya's and LyCORIS' names: the parameters, taken from `tensors` by their names
        here, and the numbers."""
        endings = {slot: ends[0] for slot, ends in {**self.kind.endings, **dora.ENDINGS}.items()}
        made: dict[str, Tensor] = {}
        for place in self.places:
            for slot, tensor in _tensors(self.layers[place.name]).items():
                own = tensors.get(f"layers.{place.name}.{slot}", tensor)
                shape = dora.shape_of(place.shape) if slot == dora.SCALE else own.shape
                made[place.name + endings.get(slot, f".{slot}")] = own.detach().reshape(shape)
        return made


def _dropped(delta: Delta, dropping: Dropping, layer: str) -> Delta:
    return replace(delta, between=partial(dropping.hidden, layer)) if isinstance(delta, LowRank) else delta


def trainable(name: str) -> WeightKind:
    """A kind that can be trained, by its name. Raises UnknownName, BadInput."""
    known = {kind.name.lower(): kind for kind in kinds().values() if kind.new is not None}
    named = {**{alias: kind for kind in known.values() for alias in kind.aliases}, **known}
    if name.lower() not in named:
        raise UnknownName("kind of adapter", name, tuple(known))
    return named[name.lower()]


def _check(chosen: Sequence[Place], growth: Growth) -> None:
    if not chosen:
        raise BadInput("no layer is left to train: choose other targets, or give convolutions a rank")
    most = max(min(as_matrix(place.shape)) for place in chosen)
    for size in (growth.size, *((growth.kernels,) if growth.kernels is not None else ())):
        if size.rank > most:
            raise BadInput(f"rank {size.rank}: the largest layer has {most} channels, choose at most that many")


def _layer(tensors: Mapping[str, Tensor]) -> nn.Module:
    layer = nn.Module()
    for slot, tensor in tensors.items():
        if slot in NUMBERS:
            layer.register_buffer(slot, tensor)
        else:
            layer.register_parameter(slot, nn.Parameter(tensor))
    return layer


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    return {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
