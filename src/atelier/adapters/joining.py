"""Several adapters as one.

The sum of products is a product of wider factors: sum of w B A = [w1 B1, w2 B2] [A1; A2]. So plain LoRAs are joined
exactly, at the sum of their ranks. The mean of the factors is none of this: (B1 + B2)(A1 + A2) has products of one's
factor with the other's (docs/networks.md, "Merging").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from atelier.adapters.attach import Strong, merged
from atelier.adapters.delta import ALPHA, BIAS_DIFFERENCE, SCALE
from atelier.adapters.extract import Extracted, Pair, of_pairs, parameters
from atelier.adapters.factors import decomposed_product
from atelier.adapters.known import Known
from atelier.adapters.layouts import DOWN, MID, UP, Layer, Slots, spelled
from atelier.adapters.read import AdapterFile, deltas, matched
from atelier.adapters.resize import Size, flat, is_kernel, scale_of
from atelier.adapters.respelling import layers_of
from atelier.adapters.spelling import modules, parts
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile, BadInput
from atelier.weights.archive import counted

FACTORS = frozenset({UP, DOWN, MID, ALPHA})
SUMMED = frozenset({"diff", "w_norm", "b_norm", BIAS_DIFFERENCE})
"""Slots of what is added to a parameter as it is."""


class Weighted(NamedTuple):
    """An adapter, and how strongly it acts."""

    file: AdapterFile
    strength: float


@dataclass(frozen=True, slots=True)
class Joined:
    """tensors: of the file, float32, as kohya's scripts name them; layers: how many it has; ranks: the smallest and the
    largest, 0 where it has none; kept: the share of the squared difference that is in it, 0 to 1."""

    tensors: Mapping[str, Tensor]
    layers: int
    ranks: tuple[int, int]
    kept: float


def is_plain(file: AdapterFile) -> bool:
    """Whether `joined` can take all of it."""
    scaled = (layer.tensors.keys() - ({SCALE} if layer.kind.ranked else set()) for layer in file.layers.values())
    return not any(slots - FACTORS - SUMMED for slots in scaled)


def joined(adapters: Sequence[Weighted], known: Known, size: Size | None) -> Joined:
    """The sum of adapters that are plain; size: None, or how narrow the factors become afterwards.

    Raises BadInput where one has a LoRA for a layer and another a full difference.
    """
    layers: list[Layer] = []
    kept = total = 0.0
    for own in _grouped(adapters, known):
        slots = _sum(own)
        if UP in slots and size is not None:
            found = decomposed_product(*flat(slots))
            rank = size.of(found.values, kernel=is_kernel(slots))
            kept, total = kept + found.kept(rank), total + found.squares
            slots = {**slots, **_shaped(*found.cut(rank), slots[UP].shape[2:], slots[DOWN].shape[1:])}
        layers.append(Layer(own[0][1].part, own[0][1].module, slots))
    return _joined(spelled(layers, known.family, "kohya"), len(layers), kept / total if total else 1.0)


def differing(adapters: Sequence[Weighted], base: Checkpoint, size: Size) -> Joined:
    """What adapters of any kind do to a model, one after the other, as a LoRA of that size."""
    pairs = _changed(adapters, base)
    found: Extracted = of_pairs(pairs, base.family, size.rank, size.kernel_rank, whole=True)
    if not found.tensors:
        raise BadInput(f"{base.path}: the adapters change nothing in it")
    return _joined(found.tensors, found.layers, found.kept)


def changed(
    model: Checkpoint, part: str, tensors: Mapping[str, Tensor], adapters: Sequence[Weighted]
) -> dict[str, Tensor]:
    """Those of a part's tensors, by our names, that adapters change, in the precision that they have: what
    `attached(net, …, "merge")` computes. Raises BadFile for an adapter of another model, and for what is no number."""
    changes: defaultdict[str, list[Strong]] = defaultdict(list)
    for file, strength in adapters:
        for name, (delta, _) in deltas(matched(file, model), part).items():
            changes[name].append(Strong(delta, strength))
    made = merged(tensors, changes)
    bad = [name for name, tensor in made.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise BadFile(adapters[-1].file.path, f"makes {counted(bad)} of the {part} NaN or infinite: it is too strong")
    return made


def _changed(adapters: Sequence[Weighted], base: Checkpoint) -> Iterator[Pair]:
    for part in parts(base.family):
        if not base.has(part):
            continue
        plain = base.tensors(part, torch.float32)
        after = {**plain, **changed(base, part.name, plain, adapters)}
        for module in modules(part.network.names(base.spec(part))):
            yield part, module, parameters(plain, module.ours), parameters(after, module.ours)


Own = list[tuple[float, Layer]]


def _grouped(adapters: Sequence[Weighted], known: Known) -> Iterator[Own]:
    """What each has for a layer, with its strength."""
    groups: defaultdict[tuple[str, str], Own] = defaultdict(list)
    for file, strength in adapters:
        for layer in layers_of(file, known, whole=False):
            groups[layer.part.name, layer.module.ours].append((strength, layer))
    for own in groups.values():
        if len({UP in layer.slots for _, layer in own if layer.slots.keys() - {BIAS_DIFFERENCE}}) > 1:
            raise BadInput(f"{own[0][1].module.ours}: one adapter has a LoRA for it, another a full difference: {WAY}")
        yield own


WAY = "name the model that they are for (--base) and the rank of the result (--rank)"


def _sum(own: Own) -> Slots:
    """Of layers with their strengths."""
    made: dict[str, Tensor] = {}
    for strength, layer in own:
        for slot in SUMMED & layer.slots.keys():
            added = strength * layer.slots[slot]
            made[slot] = made[slot] + added.reshape(made[slot].shape) if slot in made else added
    low = [(strength, layer.slots) for strength, layer in own if UP in layer.slots]
    if low:
        halves = [flat(slots) for _, slots in low]
        factors = zip(low, halves, strict=True)
        up = torch.cat([strength * scale_of(slots) * up for (strength, slots), (up, _) in factors], 1)
        first = low[0][1]
        kernel = first[MID].shape[2:] if MID in first else first[DOWN].shape[2:]
        inner = (first[DOWN].shape[1], *kernel)
        made |= _shaped(up, torch.cat([down for _, down in halves]), first[UP].shape[2:], inner)
    return made


def _shaped(up: Tensor, down: Tensor, ones: tuple[int, ...], inner: tuple[int, ...]) -> dict[str, Tensor]:
    """The factors in the shapes of a file, with an alpha that leaves them as they are."""
    rank = len(down)
    return {UP: up.reshape(-1, rank, *ones), DOWN: down.reshape(rank, *inner), ALPHA: torch.tensor(float(rank))}


def _joined(tensors: Mapping[str, Tensor], layers: int, kept: float) -> Joined:
    ranks = [len(tensor) for name, tensor in tensors.items() if name.endswith(".lora_down.weight")]
    return Joined(tensors, layers, (min(ranks, default=0), max(ranks, default=0)), kept)
