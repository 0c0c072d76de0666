"""The soft edge network on disk: its spec from its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import hed as names

if TYPE_CHECKING:
    from atelier.models.hed import Hed, HedSpec

BLOCKS = 5


def infer(shapes: Shapes, _: PartFacts) -> HedSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.hed import HedSpec

    widths = tuple(shapes.shape(f"block{n + 1}.projection.weight", 4)[1] for n in range(BLOCKS))
    return HedSpec(widths, tuple(shapes.count(f"block{n + 1}.convs.{{}}.") for n in range(BLOCKS)))


def _facts(_: HedSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: HedSpec) -> Hed:
    from atelier.models.hed import Hed

    return Hed(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
