"""Hypernetworks, as A1111 trains them: small networks before the keys and the values of every attention.

A file has two for each width of what an attention reads, the one of keys first: source + strength * net(source). Each
is a chain of linear layers with an activation behind all of them, or all but the last, and maybe a norm behind that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from atelier.errors import BadFile
from atelier.weights.archive import Archive, counted, open_any
from atelier.weights.formats.safetensors import FLOATS

ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leakyrelu": nn.LeakyReLU,
    "elu": nn.ELU,
    "swish": nn.Hardswish,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": nn.Hardtanh,
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
    "softshrink": nn.Softshrink,
    "hardshrink": nn.Hardshrink,
    "logsigmoid": nn.LogSigmoid,
}
"""By what A1111 calls them; its swish is the piecewise one."""
NONE = frozenset({"linear", "None"})
ACTIVATION, ON_LAST = "activation_func", "activate_output"
"""What a file says beside its tensors: which activation, and whether it also stands behind the last layer, as it does
where nothing is said."""
_PARAMETER = re.compile(r"(\d+)\.([01])\.linear\.?(\d+)\.(weight|bias)$")
"""Width, 0 for keys and 1 for values, place in the chain; the first files have no dot before the place."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What stands before the keys and before the values of attentions that read states of one width."""

    key: nn.Module
    value: nn.Module


@dataclass(frozen=True, slots=True)
class HypernetworkFile:
    """A hypernetwork on disk, of which only the header has been read. places: (width, 0 or 1) -> the names of the
    parameters of a chain, by their place in it and what they are."""

    archive: Archive
    places: Mapping[tuple[int, int], Mapping[tuple[int, str], str]]

    @property
    def path(self) -> Path:
        return self.archive.path

    @property
    def widths(self) -> frozenset[int]:
        """Of the states that it changes."""
        return frozenset(width for width, _ in self.places)


def open_hypernetwork(path: Path) -> HypernetworkFile:
    """Raises BadFile for what cannot be read, or is no hypernetwork that can be computed."""
    archive = open_any(path)
    places: dict[tuple[int, int], dict[tuple[int, str], str]] = {}
    for name in archive.tensors:
        found = _PARAMETER.fullmatch(name)
        if found is not None and archive.tensors[name].dtype in FLOATS:
            places.setdefault((int(found[1]), int(found[2])), {})[int(found[3]), found[4]] = name
    if not places or any((width, 1 - side) not in places for width, side in places):
        raise BadFile(path, f"is no hypernetwork: it has {counted(archive.tensors.keys())}")
    file = HypernetworkFile(archive, MappingProxyType(places))
    _activation(file)
    for (width, _), own in places.items():
        _check(file, width, own)
    return file


def load_hypernetwork(file: HypernetworkFile) -> Mapping[int, Pair]:
    """Its networks by the width of what they change, float32. Raises BadFile where the file has changed since."""
    names = [name for own in file.places.values() for name in own.values()]
    tensors = file.archive.load(names, dtype=torch.float32, mapped=False)
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise BadFile(file.path, "has NaN or infinity in its weights: it is damaged, get it again")
    chains = {key: _chain(file, {at: tensors[name] for at, name in own.items()}) for key, own in file.places.items()}
    return {width: Pair(chains[width, 0], chains[width, 1]) for width in file.widths}


def _activation(file: HypernetworkFile) -> type[nn.Module] | None:
    """None where layers follow one another. Raises BadFile for one that is not known."""
    name = file.archive.metadata.get(ACTIVATION, "linear")
    if name in NONE:
        return None
    if name not in ACTIVATIONS:
        raise BadFile(file.path, f"has the activation {name!r}, which is none of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _check(file: HypernetworkFile, width: int, own: Mapping[tuple[int, str], str]) -> None:
    """Raises BadFile where the shapes of a chain do not follow one another, from `width` back to it."""
    shapes = {at: file.archive.tensors[name].shape for at, name in own.items()}
    last = width
    for place in sorted({place for place, _ in shapes}):
        weight, bias = shapes.get((place, "weight"), ()), shapes.get((place, "bias"), ())
        if len(weight) == 2 and weight[1] == last and bias == weight[:1]:
            last = weight[0]
        elif not (len(weight) == 1 and weight == bias == (last,)):
            raise BadFile(file.path, f"has layers of width {width} whose shapes do not follow one another")
    if last != width:
        raise BadFile(file.path, f"makes states of width {last} of those of width {width}")


def _chain(file: HypernetworkFile, own: Mapping[tuple[int, str], Tensor]) -> nn.Module:
    return nn.Sequential(*_layers(own, _activation(file), on_last=file.archive.metadata.get(ON_LAST) != "False"))


def _layers(
    own: Mapping[tuple[int, str], Tensor], activation: type[nn.Module] | None, *, on_last: bool
) -> Iterator[nn.Module]:
    places = sorted({place for place, _ in own})
    linear = [place for place in places if own[place, "weight"].ndim == 2]
    for place in places:
        weight, bias = (nn.Parameter(own[place, kind], requires_grad=False) for kind in ("weight", "bias"))
        layer = nn.Linear(1, 1) if weight.ndim == 2 else nn.LayerNorm(len(weight))
        layer.weight, layer.bias = weight, bias
        yield layer
        if weight.ndim == 2 and activation is not None and (on_last or place != linear[-1]):
            yield activation()
