"""How programs write the layers of an adapter into a file: the names of layers, and what stands behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from atelier.adapters import dora
from atelier.adapters.delta import ALPHA, BIAS_DIFFERENCE, SCALE
from atelier.adapters.read import SHARED, kinds
from atelier.adapters.spelling import Module, dotted_name, flat_name, single_name
from atelier.errors import BadInput
from atelier.families.family import Family
from atelier.families.part import PartSpec
from atelier.weights.load import swapped
from atelier.weights.names.name import Rows

Layout = Literal["kohya", "original", "diffusers", "peft"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
WITH_ALPHA: frozenset[Layout] = frozenset({"kohya", "original"})
"""They have the layers of single files, any kind of adapter, and an alpha; the others have neither."""
UP, DOWN, MID = "up", "down", "mid"
ROWLESS = frozenset({DOWN, MID, ALPHA, SCALE})
"""Slots of a LoRA or a full difference that are the same for every row of the weight."""
ROWED = frozenset({UP, DOWN, ALPHA, BIAS_DIFFERENCE})
"""Slots of layers that can be kept together."""
NAMES: Mapping[Layout, Callable[[Module, PartSpec[Any, Any], Family], str]] = {
    "kohya": flat_name,
    "original": single_name,
    "diffusers": dotted_name,
    "peft": dotted_name,
}
Slots = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an adapter as our network has it. slots: its tensors."""

    part: PartSpec[Any, Any]
    module: Module
    slots: Slots


def spelled(layers: Iterable[Layer], family: Family, layout: Layout) -> dict[str, Tensor]:
    """The tensors of a file in this layout. Raises BadInput for what it cannot hold."""
    groups: defaultdict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        groups[NAMES[layout](layer.module, layer.part, family)].append(layer)
    made: dict[str, Tensor] = {}
    for name, own in groups.items():
        is_text = own[0].part.name != family.denoiser
        slots = own[0].slots if is_text else _arranged(name, own, layout)
        for slot, tensor in (_in_kohyas(slots) if layout in WITH_ALPHA else _in_pefts(name, slots, layout)).items():
            made[name + _ending(slot, layout, is_text=is_text)] = tensor
    return made


def split(slots: Slots, rows: Rows) -> Slots:
    """Of what is kept for several layers together, the part of one; ranks that it does not use are left out."""
    made = {slot: own for slot, own in slots.items() if slot in ROWLESS}
    for slot in slots.keys() - made.keys():
        made[slot] = slots[slot].narrow(0, rows.start, rows.count)
    if UP in made and MID not in made:
        used = made[UP].flatten(1).any(0)
        used[0] = True
        scale = _scale(made)
        made = {**made, UP: made[UP][:, used], DOWN: made[DOWN][used]}
        made = {**made, ALPHA: torch.tensor(scale * len(made[DOWN]))}
    return made


def swapped_rows(slots: Slots) -> Slots:
    """With the halves of the rows of the layer in the other order."""
    return {slot: tensor if slot in ROWLESS else swapped(tensor) for slot, tensor in slots.items()}


def folded(slots: Slots) -> Slots:
    """Without alpha: its share in the factor that is not the input's, and a core in the other."""
    made = {slot: own for slot, own in slots.items() if slot not in {ALPHA, MID}}
    if UP in slots:
        made[UP] = (slots[UP].float() * _scale(slots)).to(slots[UP].dtype)
    if MID in slots:
        down = torch.einsum("ijkl,jq->iqkl", slots[MID].float(), slots[DOWN].float().flatten(1))
        made[DOWN] = down.to(slots[DOWN].dtype)
    return made


def _scale(slots: Slots) -> float:
    rank = len(slots[DOWN])
    return float(slots[ALPHA]) / rank if ALPHA in slots else 1.0


def _arranged(name: str, own: Sequence[Layer], layout: Layout) -> Slots:
    """Layers of the denoiser as the layout keeps them; text encoders go by transformers' names in all of them."""
    module = own[0].module
    if layout in WITH_ALPHA:
        return own[0].slots if module.rows is None else _together(name, own, module.rows.total)
    return own[0].slots if module.halves is None else swapped_rows(own[0].slots)


def _together(name: str, own: Sequence[Layer], total: int) -> Slots:
    """Layers of which each has some of the rows: their factors side by side, zeros elsewhere."""
    strange = sorted({slot for layer in own for slot in layer.slots} - ROWED)
    if strange:
        raise BadInput(f"{name}: {strange[0]} cannot be kept for several layers together: choose another layout")
    made: dict[str, Tensor] = {}
    factors = [layer for layer in own if UP in layer.slots]
    if factors:
        parts = [folded(layer.slots) for layer in factors]
        rank = sum(len(part[DOWN]) for part in parts)
        up, at = parts[0][UP].new_zeros(total, rank), 0
        for layer, part in zip(factors, parts, strict=True):
            up[_rows(layer), at : at + len(part[DOWN])] = part[UP]
            at += len(part[DOWN])
        made = {UP: up, DOWN: torch.cat([part[DOWN] for part in parts]), ALPHA: torch.tensor(float(rank))}
    biases = [layer for layer in own if BIAS_DIFFERENCE in layer.slots]
    if biases:
        made[BIAS_DIFFERENCE] = biases[0].slots[BIAS_DIFFERENCE].new_zeros(total)
        for layer in biases:
            made[BIAS_DIFFERENCE][_rows(layer)] = layer.slots[BIAS_DIFFERENCE]
    return made


def _rows(layer: Layer) -> slice:
    rows = layer.module.rows
    assert rows is not None
    return slice(rows.start, rows.start + rows.count)


def _in_kohyas(slots: Slots) -> Slots:
    """With an alpha, and lengths of a DoRA in the shape of a weight."""
    made = dict(slots)
    if UP in made:
        made.setdefault(ALPHA, torch.tensor(float(len(made[DOWN]))))
    if dora.MAGNITUDE in made:
        made[dora.SCALE] = made.pop(dora.MAGNITUDE).reshape(-1, *(1,) * (made[DOWN].ndim - 1))
    return made


def _in_pefts(name: str, slots: Slots, layout: Layout) -> Slots:
    """Raises BadInput for what diffusers does not read."""
    made = dict(folded(slots))
    lengths = made.get(dora.SCALE)
    if layout == "peft" and lengths is not None and dora.of_outputs(tuple(lengths.shape)):
        made[dora.MAGNITUDE] = made.pop(dora.SCALE).flatten()
    strange = sorted(made.keys() - {UP, DOWN, *((dora.MAGNITUDE,) if layout == "peft" else ())})
    if strange:
        raise BadInput(f"{name}: has {strange[0]}, which the layout {layout} cannot hold: choose kohya or original")
    return made


def _ending(slot: str, layout: Layout, *, is_text: bool) -> str:
    if layout in WITH_ALPHA:
        return _ENDINGS[slot]
    if layout == "diffusers":
        return f".lora_linear_layer.{slot}.weight" if is_text else f".lora.{slot}.weight"
    return {UP: ".lora_B.weight", DOWN: ".lora_A.weight"}.get(slot, SHARED[dora.MAGNITUDE][0])


_ENDINGS: Mapping[str, str] = {
    slot: ends[0] for known in (*(kind.endings for kind in kinds().values()), SHARED) for slot, ends in known.items()
}
"""What kohya's scripts and LyCORIS write behind the name of a layer."""
