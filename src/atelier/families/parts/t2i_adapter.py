"""T2I-Adapters on disk: their spec from their shapes."""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import t2i_adapter as names

if TYPE_CHECKING:
    from atelier.models.t2i_adapter import AdapterSpec, T2IAdapter

USUAL = 2
"""Blocks of a level, of all published full ones."""
XL_UNSHUFFLE = 16
"""Pixels along a side of one position, of those that halve the resolution once."""


def infer(shapes: Shapes, _: PartFacts = NO_FACTS) -> AdapterSpec:
    """Raises BadFile where the shapes are no T2I-Adapter's."""
    from atelier.models.t2i_adapter import AdapterSpec

    light = "body.0.out_conv.weight" in shapes.found
    first = shapes.shape("body.0.in_conv.weight" if light else "conv_in.weight", 4)
    channels, unshuffle = _hint(shapes, first[1])
    blocks = _blocks(shapes, light=light)
    widths = _widths(shapes, blocks, light=light)
    return AdapterSpec(channels, unshuffle, widths, blocks, light, xl=unshuffle == XL_UNSHUFFLE)


def _hint(shapes: Shapes, inputs: int) -> tuple[int, int]:
    """Channels of the hint, colour or grey, and the side of the square whose pixels become channels."""
    for channels in (3, 1):
        side = isqrt(inputs // channels)
        if side and channels * side**2 == inputs:
            return channels, side
    raise BadFile(shapes.source, f"reads {inputs} channels, which are no square of pixels of a grey or colour hint")


def _blocks(shapes: Shapes, *, light: bool) -> int:
    """Of one level. A flat list of blocks tells it by where its width first changes."""
    if shapes.layout == "diffusers":
        return shapes.count("body.0.resnets.{}.")
    if light:
        return shapes.count("body.0.body.{}.")
    total = shapes.count("body.{}.")
    return next((k for k in range(1, total) if f"body.{k}.in_conv.weight" in shapes.found), USUAL)


def _widths(shapes: Shapes, blocks: int, *, light: bool) -> tuple[int, ...]:
    total = shapes.count("body.{}.")
    if light:
        return tuple(shapes.shape(f"body.{k}.out_conv.weight", 4)[0] for k in range(total))
    if shapes.layout == "diffusers":
        return tuple(shapes.shape(f"body.{k}.resnets.0.block1.weight", 4)[0] for k in range(total))
    return tuple(shapes.shape(f"body.{k}.block1.weight", 4)[0] for k in range(0, total, blocks))


def _build(spec: AdapterSpec) -> T2IAdapter:
    from atelier.models.t2i_adapter import T2IAdapter

    return T2IAdapter(spec)


NETWORK = Architecture(infer, names.names, _build, lambda _: NO_FACTS)
