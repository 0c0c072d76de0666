"""PiDiNet on disk: its spec from its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import pidinet as names

if TYPE_CHECKING:
    from atelier.models.pidinet import PidiNet, PidiNetSpec


def infer(shapes: Shapes, _: PartFacts) -> PidiNetSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.pidinet import PidiNetSpec

    return PidiNetSpec(shapes.shape("init_block.weight", 4)[0], shapes.shape("dilations.0.conv1.weight", 4)[0])


def _facts(_: PidiNetSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: PidiNetSpec) -> PidiNet:
    from atelier.models.pidinet import PidiNet

    return PidiNet(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
