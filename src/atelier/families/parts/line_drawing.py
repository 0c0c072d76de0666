"""The line drawing network on disk: its spec from its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import line_drawing as names

if TYPE_CHECKING:
    from atelier.models.line_drawing import LineDrawing, LineDrawingSpec


def infer(shapes: Shapes, _: PartFacts) -> LineDrawingSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.line_drawing import LineDrawingSpec

    return LineDrawingSpec(shapes.shape("model0.1.weight", 4)[0], shapes.count("model2.{}."))


def _facts(_: LineDrawingSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: LineDrawingSpec) -> LineDrawing:
    from atelier.models.line_drawing import LineDrawing

    return LineDrawing(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
