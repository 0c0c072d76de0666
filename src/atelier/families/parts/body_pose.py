"""OpenPose's network of bodies on disk: its spec from its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import body_pose as names

if TYPE_CHECKING:
    from atelier.models.body_pose import BodyPose, BodyPoseSpec


def infer(shapes: Shapes, _: PartFacts) -> BodyPoseSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.body_pose import BodyPoseSpec

    def width(layer: str) -> int:
        return shapes.shape(f"{layer}.weight", 4)[0]

    stages = 1
    while f"Mconv1_stage{stages + 1}_L1.weight" in shapes.found:
        stages += 1
    trunk = tuple(width(f"conv{n}_1") for n in range(1, 5))
    return BodyPoseSpec(trunk, width("conv4_4_CPM"), width("conv5_1_CPM_L1"), width("conv5_4_CPM_L1"), stages)


def _facts(_: BodyPoseSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: BodyPoseSpec) -> BodyPose:
    from atelier.models.body_pose import BodyPose

    return BodyPose(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
