"""Names of OpenPose's network of bodies, as published (body_pose_model.pth)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name

if TYPE_CHECKING:
    from atelier.models.body_pose import BodyPoseSpec

TRUNK = (
    ("conv1_1", "conv1_2"),
    ("conv2_1", "conv2_2"),
    ("conv3_1", "conv3_2", "conv3_3", "conv3_4"),
    ("conv4_1", "conv4_2", "conv4_3_CPM", "conv4_4_CPM"),
)
BRANCHES = (("limbs", "L1"), ("points", "L2"))


def names(spec: BodyPoseSpec) -> Iterator[Name]:
    """Every parameter of `BodyPose(spec)`."""
    for block, layers in enumerate(TRUNK):
        for n, published in enumerate(layers):
            yield from _layer(f"trunk.blocks.{block}.{n}", published)
    for ours, theirs in BRANCHES:
        for n in range(5):
            yield from _layer(f"{ours}.0.layers.{n}", f"conv5_{n + 1}_CPM_{theirs}")
        for stage in range(1, spec.stages):
            for n in range(7):
                yield from _layer(f"{ours}.{stage}.layers.{n}", f"Mconv{n + 1}_stage{stage + 1}_{theirs}")


def _layer(ours: str, published: str) -> Iterator[Name]:
    for kind in ("weight", "bias"):
        yield Name(f"{ours}.{kind}", f"{published}.{kind}", f"{published}.{kind}")
