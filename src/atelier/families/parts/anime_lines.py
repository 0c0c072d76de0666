"""The network that draws anime lines on disk: its spec from its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import anime_lines as names

if TYPE_CHECKING:
    from atelier.models.anime_lines import AnimeLines, AnimeLinesSpec


def infer(shapes: Shapes, _: PartFacts) -> AnimeLinesSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.anime_lines import AnimeLinesSpec

    def place(depth: int) -> str:
        return f"{names.places(depth, is_deepest=False)[0]}.weight"

    widths = [shapes.shape(place(0), 4)[0], shapes.shape(place(1), 4)[0]]
    while place(len(widths)) in shapes.found:
        widths.append(shapes.shape(place(len(widths)), 4)[0])
    return AnimeLinesSpec(tuple(widths))


def _facts(_: AnimeLinesSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: AnimeLinesSpec) -> AnimeLines:
    from atelier.models.anime_lines import AnimeLines

    return AnimeLines(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
