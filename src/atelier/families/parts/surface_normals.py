"""The network of surface normals on disk: its spec from its shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atelier.families.facts import NO_FACTS, PartFacts
from atelier.families.part import Architecture
from atelier.families.shapes import Shapes
from atelier.weights.names import surface_normals as names

if TYPE_CHECKING:
    from atelier.models.surface_normals import SurfaceNormals, SurfaceNormalsSpec

STAGES, UPS = 7, 4


def infer(shapes: Shapes, _: PartFacts) -> SurfaceNormalsSpec:
    """Raises BadFile where the shapes are no such network's."""
    from atelier.models.surface_normals import SurfaceNormalsSpec

    def size(layer: str, axis: int = 0) -> int:
        return shapes.shape(f"{layer}.weight", 3, 4)[axis]

    blocks = f"{names.ENCODER}.blocks"
    stages = range(STAGES)
    widths = (size(f"{blocks}.0.0.conv_pw"), *(size(f"{blocks}.{n}.0.conv_pwl") for n in stages[1:]))
    return SurfaceNormalsSpec(
        size(f"{names.ENCODER}.conv_stem"),
        widths,
        tuple(shapes.count(f"{blocks}.{n}.{{}}.") for n in stages),
        tuple(size(f"{blocks}.{n}.0.conv_dw", -1) for n in stages),
        size(f"{blocks}.1.0.conv_pw") // widths[0],
        size(f"{names.ENCODER}.conv_head"),
        size("decoder.conv2"),
        tuple(size(f"decoder.up{n + 1}._net.0") for n in range(UPS)),
        size("decoder.out_conv_res4.0"),
    )


def _facts(_: SurfaceNormalsSpec) -> PartFacts:
    return NO_FACTS


def _build(spec: SurfaceNormalsSpec) -> SurfaceNormals:
    from atelier.models.surface_normals import SurfaceNormals

    return SurfaceNormals(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
