"""The layers of a model that adapters can act on, by every name that files have for them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from atelier.adapters.delta import WEIGHT
from atelier.adapters.spelling import Named, named, parts
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.families.part import PartSpec
from atelier.weights.load import match
from atelier.weights.names.name import Halves, Name, Pointwise, Rows

BASE, FIRST = "BASE", "IN00"
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.|(middle_block)\.")
_SHORT = {"input": "IN", "output": "OUT"}


@dataclass(frozen=True, slots=True)
class Target:
    """A layer. part: of the model; module: path in our network; shapes: of its parameters, by name (weight, bias);
    block: where in the U-Net it is, as block weights count it (BASE, IN00, MID, OUT00); rule: see `Named`; inputs: how
    many input channels the shape of the weight has, where the network's own has more; else 0."""

    part: str
    module: str
    shapes: Mapping[str, tuple[int, ...]]
    block: str = BASE
    rule: Rows | Halves | None = None
    inputs: int = 0

    def filed(self, parameter: str) -> tuple[int, ...]:
        """The shape of a parameter as files have it that keep others with it; () where there is none."""
        own = self.shapes.get(parameter, ())
        return (self.rule.total, *own[1:]) if isinstance(self.rule, Rows) and own else own

    def of_first(self, channels: int) -> Target:
        """The layer as it is in a model that sees the latent alone, where this one sees more (inpainting, editing): its
        first convolution has other inputs; any other layer is itself."""
        weight = self.shapes.get(WEIGHT, ())
        if self.block != FIRST or len(weight) != 4 or weight[1] <= channels:
            return self
        return replace(self, shapes={**self.shapes, WEIGHT: (weight[0], channels, *weight[2:])}, inputs=channels)


def targets(model: Checkpoint) -> Mapping[str, tuple[Target, ...]]:
    """The layers of the denoiser and of the text encoders, by every name that files have for them: several where one
    name stands for several. Reads nothing. Raises BadFile for a model that is broken."""
    there = [part for part in parts(model.family) if model.has(part)]
    specs = {part.name: model.spec(part) for part in there}
    shapes = {part.name: shapes_of(model, part, tuple(part.network.names(specs[part.name]))) for part in there}

    made: dict[int, Target] = {}

    def target(own: Named) -> Target:
        """The same for every name that says the same."""
        if id(own) not in made:
            found = shapes[own.part.name][own.module.ours]
            made[id(own)] = Target(own.part.name, own.module.ours, found, _block(own.module.ldm), own.rule)
        return made[id(own)]

    known = named(model.family, specs)
    return {name: tuple(map(target, several)) for name, several in known.items()}


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


def _block(ldm: str) -> str:
    found = _BLOCK.match(ldm)
    if found is None:
        return BASE
    return "MID" if found[3] else f"{_SHORT[found[1]]}{int(found[2]):02d}"
