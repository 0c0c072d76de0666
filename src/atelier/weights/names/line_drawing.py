"""Names of the line drawing network, as published (sk_model.pth, sk_model2.pth): layers are counted, those without
weights too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name

if TYPE_CHECKING:
    from atelier.models.line_drawing import LineDrawingSpec

STEP = 3
"""A convolution, a norm, a rectifier."""


def names(spec: LineDrawingSpec) -> Iterator[Name]:
    """Every parameter of `LineDrawing(spec)`."""
    yield from _layer("first", "model0.1")
    for n in range(2):
        yield from _layer(f"down.{n}", f"model1.{STEP * n}")
    for n in range(spec.blocks):
        yield from _layer(f"middle.{n}.conv1", f"model2.{n}.conv_block.1")
        yield from _layer(f"middle.{n}.conv2", f"model2.{n}.conv_block.5")
    for n in range(2):
        yield from _layer(f"up.{n}", f"model3.{STEP * n}")
    yield from _layer("last", "model4.1")


def _layer(ours: str, published: str) -> Iterator[Name]:
    for kind in ("weight", "bias"):
        yield Name(f"{ours}.{kind}", f"{published}.{kind}", f"{published}.{kind}")
