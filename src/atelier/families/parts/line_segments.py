"""M-LSD on disk: its spec from its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import line_segments as names

if TYPE_CHECKING:
    from atelier.models.line_segments import LineSegments, LineSegmentsSpec

LAST = (1, 3, 6, 10, 13)
"""The trunk's last block of each stage."""
EXPANDED = 2
"""The first block that expands."""


def infer(shapes: Shapes, _: PartFacts) -> LineSegmentsSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.line_segments import LineSegmentsSpec

    def channels(layer: str) -> int:
        return shapes.shape(f"{layer}.weight", 4)[0]

    first, *others = LAST
    widths = (channels(f"backbone.features.{first}.conv.1"),)
    widths += tuple(channels(f"backbone.features.{n}.conv.2") for n in others)
    expansion = channels(f"backbone.features.{EXPANDED}.conv.0.0") // widths[0]
    side, maps = channels("block15.conv1.0"), channels("block23.conv3")
    depths = tuple(end - start for start, end in zip((0, *LAST), LAST, strict=False))
    return LineSegmentsSpec(channels("backbone.features.0.0"), widths, depths, expansion, side, maps)


def _facts(_: LineSegmentsSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: LineSegmentsSpec) -> LineSegments:
    from atelier.models.line_segments import LineSegments

    return LineSegments(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
