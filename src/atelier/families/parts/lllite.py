"""ControlNet-LLLite on disk: which projections a file stands before, and its sizes, from its shapes."""

from __future__ import annotations

from itertools import count, takewhile
from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.families.shapes import Shapes
from atelier.weights.names.lllite import places

if TYPE_CHECKING:
    from atelier.models.lllite import LiteSpec
    from atelier.models.unet import UNetSpec


def infer(shapes: Shapes, unet: UNetSpec) -> tuple[LiteSpec, ...]:
    """unet: of the model. Raises BadFile where the shapes are no LLLite's, or none of this U-Net."""
    called = places(unet)
    found = tuple(_one(shapes, path, name) for path, name in called.items() if f"{name}.down.0.weight" in shapes.found)
    if not found:
        raise BadFile(shapes.source, "stands before no attention of this model: choose one that was made for it")
    return found


def _one(shapes: Shapes, path: str, name: str) -> LiteSpec:
    from atelier.models.lllite import LiteSpec

    inner, width = shapes.shape(f"{name}.down.0.weight", 2)
    kernels = takewhile(shapes.found.__contains__, (f"{name}.conditioning1.{2 * n}.weight" for n in count()))
    convs = [shapes.shape(kernel, 4) for kernel in kernels]
    if not convs:
        raise BadFile(shapes.source, f"lacks {name}.conditioning1.0.weight, which reads the hint: get it again")
    return LiteSpec(path, width, inner, tuple((ins, outs, side) for outs, ins, side, _ in convs))
