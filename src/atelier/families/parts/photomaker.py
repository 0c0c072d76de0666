"""PhotoMaker's encoder on disk: its spec from its shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.parts import clip
from atelier.families.parts.ip_adapter import infer_face
from atelier.families.shapes import Shapes
from atelier.weights.names import photomaker as names

if TYPE_CHECKING:
    from atelier.models.photomaker import PhotoMaker, PhotoMakerSpec

HEAD_WIDTH = 128
"""Of its perceiver, other than that of IP-Adapters."""


def infer(shapes: Shapes, facts: PartFacts) -> PhotoMakerSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.photomaker import PhotoMakerSpec

    vision = clip.infer_vision(shapes, facts)
    second, _ = shapes.shape("visual_projection_2.weight", 2)
    spec = PhotoMakerSpec(vision, second)
    if not any(name.startswith(names.FACE) for name in shapes.found):
        return spec
    face = infer_face(shapes, names.FACE, spec.width, layers="token_proj")
    heads = max(1, spec.width // HEAD_WIDTH)
    return replace(spec, face=replace(face, states=replace(face.states, heads=heads)))


def _facts(_: PhotoMakerSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: PhotoMakerSpec) -> PhotoMaker:
    from atelier.models.photomaker import PhotoMaker

    return PhotoMaker(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
