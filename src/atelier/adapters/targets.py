"""The layers of a model that adapters can act on, by every name that files have for them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from atelier.adapters.spelling import Module, modules, number_of, of_denoiser, of_tower
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.families.part import PartSpec
from atelier.weights.load import match
from atelier.weights.names.name import Name, Pointwise, Rows

BASE = "BASE"
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.|(middle_block)\.")
_SHORT = {"input": "IN", "output": "OUT"}


@dataclass(frozen=True, slots=True)
class Target:
    """A layer. part: of the model; module: path in our network; shapes: of its parameters, by name (weight, bias);
    block: where in the U-Net it is, as block weights count it (BASE, IN00, MID, OUT00)."""

    part: str
    module: str
    shapes: Mapping[str, tuple[int, ...]]
    block: str = BASE


def targets(model: Checkpoint) -> Mapping[str, Target]:
    """The layers of the denoiser and of the text encoders. Reads nothing. Raises BadFile for a model that is broken."""
    found: dict[str, Target] = {}
    family = model.family
    denoiser = family.part(family.denoiser)
    assert denoiser is not None
    for tower in family.towers:
        found.update(_spelled(model, tower.part, partial(of_tower, number=number_of(tower.part))))
    found.update(_spelled(model, denoiser, of_denoiser))
    return found


def _spelled(
    model: Checkpoint, part: PartSpec[Any, Any], spellings: Callable[[Module], Iterator[str]]
) -> Iterator[tuple[str, Target]]:
    names = tuple(part.network.names(model.spec(part)))
    shapes = shapes_of(model, part, names)
    for module in modules(names):
        target = Target(part.name, module.ours, shapes[module.ours], _block(module.ldm))
        yield from ((spelling, target) for spelling in spellings(module))


def shapes_of(
    model: Checkpoint, part: PartSpec[Any, Any], names: tuple[Name, ...]
) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
    """The shapes of the parameters of every layer of a part, by layer and parameter, as our network keeps them."""
    stored = model.parts[part.name]
    there, found = stored.shapes(), defaultdict[str, dict[str, tuple[int, ...]]](dict)
    for name, spelling in match(stored, names).items():
        module, _, parameter = name.ours.rpartition(".")
        found[module][parameter] = _ours(there[spelling], name)
    return found


def _ours(shape: tuple[int, ...], name: Name) -> tuple[int, ...]:
    match name.rule:
        case Pointwise(ours=2) if len(shape) == 4:
            return shape[:2]
        case Pointwise(ours=4) if len(shape) == 2:
            return (*shape, 1, 1)
        case Rows() as rows if len(shape) and shape[0] == rows.total:
            return (rows.count, *shape[1:])
        case _:
            return shape


def _block(ldm: str | None) -> str:
    found = _BLOCK.match(ldm or "")
    if found is None:
        return BASE
    return "MID" if found[3] else f"{_SHORT[found[1]]}{int(found[2]):02d}"
