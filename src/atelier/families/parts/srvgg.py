"""SRVGGNetCompact on disk: its spec from its shapes."""

from __future__ import annotations

from collections.abc import Collection
from math import isqrt
from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import srvgg as names

if TYPE_CHECKING:
    from atelier.models.srvgg import SrvggNet, SrvggSpec


def detect(found: Collection[str]) -> bool:
    """Whether the names of tensors are those of an SRVGGNetCompact: nothing but a counted chain."""
    chain = {"body.0.weight", "body.1.weight", "body.2.weight"}
    return chain <= set(found) and all(name.removeprefix("body.").partition(".")[0].isdecimal() for name in found)


def infer(shapes: Shapes, _: PartFacts) -> SrvggSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.srvgg import SrvggSpec

    width, channels = shapes.shape("body.0.weight", 4)[:2]
    number = shapes.count("body.{}.weight")
    outputs = shapes.shape(f"body.{number - 1}.weight", 1, 4)[0]
    scale = isqrt(outputs // channels)
    if number % 2 == 0 or number < 3 or scale < 1 or outputs != channels * scale**2:
        raise BadFile(
            shapes.source, "is an upscaler whose layers do not fit together: it is damaged or of another kind"
        )
    return SrvggSpec(channels=channels, width=width, layers=(number - 3) // 2, scale=scale)


def _facts(_: SrvggSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: SrvggSpec) -> SrvggNet:
    from atelier.models.srvgg import SrvggNet

    return SrvggNet(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
