"""Control-LoRAs, as Stability AI publishes them: ControlNets as low-rank changes of the encoder that they copy.

A layer of the encoder is W + up @ down, without a factor; what has no such pair is there whole: norms, biases, the
layers that read the hint, those behind the skip connections. What is nowhere in the file is the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from atelier.errors import BadFile
from atelier.models.controlnet import ControlNet, ControlSpec
from atelier.weights.archive import WAY_OUT, Archive, counted
from atelier.weights.formats import safetensors
from atelier.weights.names.controlnet import names

MARK = "lora_controlnet"
"""An empty tensor of this name tells these files from others."""
WEIGHT, UP, DOWN = ".weight", ".up", ".down"


@dataclass(frozen=True, slots=True)
class LowRank:
    """up: (out, rank), down: (rank, in), or as kernels, (out, rank, 1, 1) and (rank, in, k, k)."""

    up: Tensor
    down: Tensor

    def product(self, shape: torch.Size) -> Tensor:
        """What is added to a weight of this shape."""
        return (self.up.flatten(1) @ self.down.flatten(1)).reshape(shape)


@dataclass(frozen=True, slots=True)
class ControlLora:
    """By our names of parameters: what is added to the encoder's weights, what stands in their place, what is new."""

    low: Mapping[str, LowRank]
    full: Mapping[str, Tensor]

    def weights(self, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of a ControlNet, for an encoder with the weights `base`, by the same names. Gradients flow through."""
        changed = {name: base[name] + low.product(base[name].shape) for name, low in self.low.items()}
        return {**base, **self.full, **changed}


def read_control_lora(archive: Archive, spec: ControlSpec) -> ControlLora:
    """Of a file without prefix, float32. Raises BadFile as `check_control_lora` does."""
    low, full = check_control_lora(archive, spec)
    tensors = archive.load(_taken(low, full), dtype=torch.float32)
    return ControlLora(
        {name: LowRank(tensors[up], tensors[down]) for name, (up, down) in low.items()},
        {name: tensors[there] for name, there in full.items()},
    )


Pairs = dict[str, tuple[str, str]]


def check_control_lora(archive: Archive, spec: ControlSpec) -> tuple[Pairs, dict[str, str]]:
    """By our names of parameters, what the tensors are called that are pairs, and those that are whole. From the header
    alone; raises BadFile where something is left over or misshapen."""
    low, full = Pairs(), dict[str, str]()
    for name in names(spec):
        stem = name.ldm.removesuffix(WEIGHT)
        if name.ldm in archive.tensors:
            full[name.ours] = name.ldm
        elif stem != name.ldm and stem + UP in archive.tensors and stem + DOWN in archive.tensors:
            low[name.ours] = stem + UP, stem + DOWN
    surplus = archive.tensors.keys() - _taken(low, full) - {MARK}
    if surplus:
        raise BadFile(archive.path, f"has {counted(surplus)} that no layer of this model takes; {WAY_OUT}")
    _check(archive, low, shapes_of(spec))
    return low, full


def _taken(low: Pairs, full: Mapping[str, str]) -> set[str]:
    return {*full.values(), *(there for pair in low.values() for there in pair)}


def shapes_of(spec: ControlSpec) -> dict[str, torch.Size]:
    """Of every parameter of a ControlNet, by our names."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in ControlNet(spec).state_dict().items()}


def _check(archive: Archive, low: Pairs, shapes: Mapping[str, torch.Size]) -> None:
    for name, pair in low.items():
        shape, (up, down) = shapes[name], (archive.tensors[own].shape for own in pair)
        if up[0] != shape[0] or prod(down[1:]) != shape[1:].numel() or prod(up[1:]) != down[0]:
            sizes = f"{up} and {down} for {name} of {tuple(shape)}"
            raise BadFile(archive.path, f"is for another model: it has {sizes}; choose one that was made for this one")


def stored_control_lora(lora: ControlLora, spec: ControlSpec) -> dict[str, Tensor]:
    """As Stability AI names and shapes them, with their mark. Raises KeyError for a name that a ControlNet lacks."""
    shapes, theirs = shapes_of(spec), {name.ours: name.ldm for name in names(spec)}
    stored = {theirs[name]: tensor for name, tensor in lora.full.items()}
    for name, low in lora.low.items():
        stem, inner = theirs[name].removesuffix(WEIGHT), shapes[name][1:]
        up = low.up.flatten(1)
        stored[stem + UP] = up.reshape(*up.shape, *(1,) * (len(inner) - 1))
        stored[stem + DOWN] = low.down.reshape(len(low.down), *inner)
    return {**stored, MARK: torch.zeros(0)}


def write_control_lora(
    path: Path,
    lora: ControlLora,
    spec: ControlSpec,
    dtype: torch.dtype = torch.float16,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """A file that programs for Control-LoRAs open. Raises StorageFull where the disk refuses it."""
    stored = {name: tensor.detach().to(dtype).contiguous() for name, tensor in stored_control_lora(lora, spec).items()}
    safetensors.save(path, stored, metadata)
