"""Files of weight adapters: what they hold, which layers of a model it is for, and the deltas themselves."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

import atelier.adapters.weight
from atelier.adapters import dora
from atelier.adapters.arranged import OfFirst, arranged
from atelier.adapters.delta import (
    ALPHA,
    BIAS,
    BIAS_DIFFERENCE,
    FACTOR_BIAS,
    LIMIT,
    NEW_BIAS,
    ON_INPUT,
    SCALE,
    TERMS,
    WEIGHT,
    Delta,
    Shapes,
    Values,
    WeightKind,
)
from atelier.adapters.inversion import BUNDLED
from atelier.adapters.kin import is_foreign, kin
from atelier.adapters.spelling import WRAPPED, usual
from atelier.adapters.stated import Stated, network_of, stated
from atelier.adapters.targets import Target, targets
from atelier.adapters.weight.full import of_bias
from atelier.adapters.weight.lora import PLACES, SIZE, SPARSE, WEIGHTS
from atelier.adapters.weight.replaced import new_bias
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile
from atelier.registry import discover
from atelier.weights.archive import Archive, counted, open_any
from atelier.weights.formats.safetensors import FLOATS, shown

SHARED: Mapping[str, tuple[str, ...]] = {
    ALPHA: (".alpha",),
    SCALE: (".scale",),
    BIAS_DIFFERENCE: (".diff_b",),
    FACTOR_BIAS: (".lora_B.bias",),
    NEW_BIAS: (".bias", ".base_layer.bias"),
    **dora.ENDINGS,
}
"""Slots that every kind may have beside its own."""
NUMBERS = frozenset({ALPHA, SCALE, ON_INPUT, TERMS, LIMIT})
"""Slots of single numbers."""
WHOLE = NUMBERS | {PLACES, SIZE}
"""Slots that may hold whole numbers."""
OF_VECTORS = frozenset({"norm", "full", "replaced"})
"""Kinds that a weight of one dimension may have; DoRA and all others need a matrix."""
OF_BIASES = (BIAS_DIFFERENCE, FACTOR_BIAS, NEW_BIAS, "b_norm")
"""Slots that are as long as the bias of their layer."""
OF_PEFT = re.compile(
    r"\.(lora_[ABE]|lora_embedding_[AB]|lora_magnitude_vector|ia3_l|oft_R)"
    r"(?:\.(?!(?:weight|bias)$)[^.]+)?(?:\.(weight|bias))?$"
)
"""The ends of PEFT's names, with the name that an adapter had in a training, or without."""


@cache
def kinds() -> Mapping[str, WeightKind]:
    """All kinds of weight adapters, by name."""
    return discover(atelier.adapters.weight, WeightKind)


@dataclass(frozen=True, slots=True)
class AdapterLayer:
    """What a file has for one layer. tensors: their names, by slot."""

    kind: WeightKind
    tensors: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """A weight adapter on disk, of which only the header has been read. layers: by the file's own names; others: names
    of tensors that are of no kind that is known; stated: the scales that its tensors do not say."""

    archive: Archive
    layers: Mapping[str, AdapterLayer]
    others: tuple[str, ...]
    stated: Stated = field(default_factory=Stated)

    @property
    def path(self) -> Path:
        return self.archive.path

    @property
    def metadata(self) -> Mapping[str, str]:
        return self.archive.metadata

    def load(self, layers: Iterable[str], dtype: torch.dtype | None = torch.float32) -> dict[str, dict[str, Tensor]]:
        """The tensors of these layers by slot, floating ones as `dtype` (None: as they are stored). A scale, which the
        tensors may say or the settings of PEFT, is among them as an alpha wherever the layer has a rank. Raises BadFile
        where the file has changed since."""
        wanted = {base: self.layers[base].tensors for base in layers}
        names = [name for own in wanted.values() for name in own.values()]
        tensors = self.archive.load(names, dtype=dtype)
        made = {base: {slot: tensors[name] for slot, name in own.items()} for base, own in wanted.items()}
        for base, own in made.items():
            self._settle(base, own)
        return made

    def _settle(self, base: str, own: dict[str, Tensor]) -> None:
        """One number in place of two that may contradict each other, or of one that only the settings say; what AdaLoRA
        multiplies the ranks with goes into a factor, and the bias of a factor is one that is added to the layer's."""
        if WEIGHTS in own:
            own["down"] = own["down"] * own.pop(WEIGHTS).reshape(-1, *(1,) * (own["down"].ndim - 1))
        rank_of = self.layers[base].kind.rank
        rank = None if rank_of is None else rank_of({slot: tuple(tensor.shape) for slot, tensor in own.items()})
        scale = float(own[SCALE]) if SCALE in own else None
        if scale is None and ALPHA not in own and rank_of is not None:
            scale = self.stated.scale(base, rank)
        if scale is not None and rank is not None:
            own.pop(SCALE, None)
            own[ALPHA] = torch.tensor(scale * rank)
        elif scale is not None:
            own[SCALE] = torch.tensor(scale)
        if FACTOR_BIAS in own:
            own[BIAS_DIFFERENCE] = Values(own).scale(rank) * own.pop(FACTOR_BIAS)
        if self.layers[base].kind.of_peft:
            own |= {slot: torch.tensor(number) for slot, number in self.stated.numbers(base).items()}

    @property
    def kind_names(self) -> tuple[str, ...]:
        """The kinds in it, the most frequent first."""
        counts: defaultdict[str, int] = defaultdict(int)
        for layer in self.layers.values():
            counts[layer.kind.name] += 1
        return tuple(sorted(counts, key=lambda name: -counts[name]))


@dataclass(frozen=True, slots=True)
class Match:
    """A file beside a model. placed: the file's name of a layer -> the layers that it stands for; unmatched: names of
    tensors that no layer takes."""

    file: AdapterFile
    placed: Mapping[str, tuple[Target, ...]]
    unmatched: tuple[str, ...]


def layers_of(names: Iterable[str], *, whole: bool = False) -> tuple[dict[str, AdapterLayer], list[str]]:
    """(what the names of tensors say of layers, by the file's names of them; names that are of no known kind). whole:
    whether there may be weights and biases in place of a layer's own."""
    slots: defaultdict[str, dict[str, str]] = defaultdict(dict)
    others: list[str] = []
    for name in names:
        found = _split(name)
        if found is None or (found[1] == NEW_BIAS and not whole) or found[1] in slots[usual(found[0])]:
            others.append(name)
        else:
            slots[usual(found[0])][found[1]] = name
    layers: dict[str, AdapterLayer] = {}
    for base, own in slots.items():
        kind = _kind(own.keys())
        if kind is None or (kind.name == "replaced" and not whole):
            others += own.values()
        else:
            layers[base] = AdapterLayer(kind, MappingProxyType(own))
    return layers, others


def open_adapter(path: Path) -> AdapterFile:
    """One file, with the settings of PEFT beside it. Raises BadFile for what cannot be read, or holds no weight
    adapter."""
    archive = open_any(path)
    network, told = network_of(path), stated(path, archive.metadata)
    layers, others = layers_of(archive.tensors, whole=told.whole)
    if not layers:
        raise BadFile(path, f"is no LoRA or other weight adapter: it has {counted(archive.tensors.keys())}")
    layers = {
        (network if base.startswith(WRAPPED) else "") + base: layer
        for base, layer in layers.items()
        if WEIGHTS not in layer.tensors or archive.tensors[layer.tensors[WEIGHTS]].shape[0] > 0
    }
    others = [name for name in others if not name.startswith(BUNDLED)]
    return AdapterFile(archive, MappingProxyType(layers), tuple(others), told)


def matched(file: AdapterFile, model: Checkpoint) -> Match:
    """Which layers of a model a file is for; no weights are read.

    Raises BadFile for one that is for another model: no layer of it is there, or its tensors do not fit.
    """
    known = targets(model)
    channels = model.latent.channels
    placed = {
        base: tuple(_as_filed(file, base, own, channels) for own in known[base])
        for base in file.layers
        if base in known
    }
    lost = [name for base, own in file.layers.items() if base not in placed for name in own.tensors.values()]
    try:
        _check(file, placed, model)
    except BadFile as error:
        other = kin(file.archive, model)
        if other is None:
            raise
        told = f"is for {other}, and {model.name} is a {model.family.title} model: choose another of the two"
        raise BadFile(file.path, told) from error
    return Match(file, MappingProxyType(placed), (*sorted(lost), *file.others))


def deltas(
    found: Match, part: str, rank: int | None = None, device: torch.device | None = None
) -> dict[str, tuple[Delta, str]]:
    """What a file adds to the parameters of one part: (the delta, the block of its layer), by our names.

    rank: so many of the ranks are used, where a kind has them; device: where the network is. Raises BadFile where the
    file is damaged, or has changed since.
    """
    here = [(base, own) for base, several in found.placed.items() for own in several if own.part == part]
    tensors = found.file.load(dict.fromkeys(base for base, _ in here))
    made: dict[str, tuple[Delta, str]] = {}
    for base, target in here:
        own = {slot: own if slot in NUMBERS else own.to(device) for slot, own in tensors[base].items()}
        for parameter, delta in _built(found.file, base, own, rank).items():
            if parameter not in target.shapes:
                continue
            own_delta = arranged(delta, target.rule)
            if target.inputs and parameter == WEIGHT:
                own_delta = OfFirst(own_delta, target.inputs)
            made[f"{target.module}.{parameter}"] = own_delta, target.block
    return made


def _built(file: AdapterFile, base: str, own: Mapping[str, Tensor], rank: int | None) -> Mapping[str, Delta]:
    try:
        return built(file.layers[base], own, rank)
    except ValueError as error:
        raise BadFile(file.path, f"{error}, in {base}: it is damaged, get it again") from error


def built(layer: AdapterLayer, tensors: Mapping[str, Tensor], rank: int | None = None) -> Mapping[str, Delta]:
    """The deltas of one layer from its tensors (float32) by slot; by parameter. Raises RuntimeError, and
    ValueError for what cannot be."""
    values = Values(tensors, rank if layer.kind.ranked else None)
    return {**dora.decomposed(layer.kind.build(values), tensors), **of_bias(tensors), **new_bias(tensors)}


def _check(file: AdapterFile, placed: Mapping[str, tuple[Target, ...]], model: Checkpoint) -> None:
    """Raises BadFile for what is for another model, whichever."""
    if not placed:
        names = counted([name for own in file.layers.values() for name in own.tensors.values()])
        raise BadFile(file.path, f"has no layer that {model.name} has ({names}): it is for another model")
    if is_foreign(file.archive, model):
        raise BadFile(
            file.path, f"reads text states of another width than those of {model.name}: it is for another model"
        )
    for base, several in placed.items():
        for target in several:
            _check_layer(file, base, target)


def _as_filed(file: AdapterFile, base: str, target: Target, channels: int) -> Target:
    """The layer as the file has it: a file that was made for a model that sees the latent alone changes a larger first
    layer in the latent's channels (docs/networks.md)."""
    layer, narrower = file.layers[base], target.of_first(channels)
    shapes = {slot: file.archive.tensors[name].shape for slot, name in layer.tensors.items()}
    own, narrow = target.filed(WEIGHT), narrower.filed(WEIGHT)
    return narrower if not fits(layer.kind, shapes, own) and fits(layer.kind, shapes, narrow) else target


def _check_layer(file: AdapterFile, base: str, target: Target) -> None:
    """Raises BadFile where the tensors do not fit the layer; only their shapes are looked at."""
    layer, infos = file.layers[base], file.archive.tensors
    whole = next((n for s, n in layer.tensors.items() if s not in WHOLE and infos[n].dtype not in FLOATS), None)
    if whole is not None:
        raise BadFile(file.path, f"has {shown(whole)} as {infos[whole].dtype}, which are no floating numbers")
    shapes = {slot: infos[name].shape for slot, name in layer.tensors.items()}
    weight, bias = target.filed(WEIGHT), target.filed(BIAS)
    mixing = layer.kind.name if layer.kind.mixes else "DoRA with lengths of inputs" if dora.mixes(shapes) else ""
    if target.rule is not None and mixing:
        raise BadFile(file.path, f"has {base} as {mixing}, which mixes rows that the model keeps apart")
    if not fits(layer.kind, shapes, weight):
        own = "x".join(map(str, weight))
        told = f"has {base} of another shape than the model's layer, {own}, or as no {layer.kind.name} that is known"
        raise BadFile(file.path, f"{told}: it is for another model")
    if any(math.prod(shapes[slot]) != math.prod(bias or (0,)) for slot in OF_BIASES if slot in shapes):
        raise BadFile(file.path, f"changes a bias of {base} that the model does not have: it is for another model")


def fits(kind: WeightKind, shapes: Shapes, weight: tuple[int, ...]) -> bool:
    """Whether tensors of these shapes, by slot, change a weight of that shape."""
    whole = all(len(shape) > 0 and 0 not in shape for slot, shape in shapes.items() if slot not in NUMBERS | SPARSE)
    single = all(math.prod(shapes[slot]) == 1 for slot in NUMBERS & shapes.keys())
    is_weight = kind.name in OF_VECTORS or len(weight) > 1
    return whole and single and is_weight and kind.fits(shapes, weight) and dora.fits(shapes, weight)


def _split(name: str) -> tuple[str, str] | None:
    """(the layer, the slot) of a tensor; the longest ending counts. PEFT may keep the name of an adapter in it."""
    best: tuple[str, str] | None = None
    name = OF_PEFT.sub(lambda found: f".{found[1]}.{found[2] or WEIGHT}", name)
    for ending, slot in _endings():
        if name.endswith(ending) and (best is None or len(ending) > len(name) - len(best[0])):
            best = name.removesuffix(ending), slot
    return best


@cache
def _endings() -> tuple[tuple[str, str], ...]:
    known = [kind.endings for kind in kinds().values()]
    return tuple((ending, slot) for own in (*known, SHARED) for slot, ends in own.items() for ending in ends)


def _kind(slots: AbstractSet[str]) -> WeightKind | None:
    own = slots - SHARED.keys()
    if not own and not {BIAS_DIFFERENCE, NEW_BIAS} & slots:
        return None
    return next((kind for kind in kinds().values() if kind.is_of(own)), None)
