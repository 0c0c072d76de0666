"""ControlNets for U-Nets on disk: their spec from their shapes."""

from __future__ import annotations

from itertools import count, takewhile
from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.families.facts import PartFacts
from atelier.families.part import Architecture
from atelier.families.parts import unet
from atelier.families.shapes import Shapes
from atelier.weights.names import controlnet as names

if TYPE_CHECKING:
    from atelier.models.controlnet import ControlNet, ControlSpec, UnionSpec

TASKS = "task_embedding"
MIXED = "transformer_layes.{}."


def infer(shapes: Shapes, facts: PartFacts) -> ControlSpec:
    """facts: the U-Net's. Raises BadFile where the shapes are no ControlNet's."""
    from atelier.models.controlnet import ControlSpec

    hint, channels = infer_hint(shapes)
    encoder = unet.infer_encoder(shapes, facts, 0)
    return ControlSpec(encoder, hint, channels, _union(shapes) if TASKS in shapes.found else None)


def infer_hint(shapes: Shapes) -> tuple[tuple[int, ...], int]:
    """Channels of the layers that read the hint, and of the hint itself. Raises BadFile."""
    if shapes.layout == "ldm":
        all_places = (f"input_hint_block.{2 * place}.weight" for place in count())
        places = list(takewhile(shapes.found.__contains__, all_places))
    else:
        inner = shapes.count("controlnet_cond_embedding.blocks.{}.")
        called = ("conv_in", *(f"blocks.{place}" for place in range(inner)), "conv_out")
        places = [f"controlnet_cond_embedding.{name}.weight" for name in called]
    found = [shapes.shape(place, 4) for place in places]
    if len(found) % 2 or len(found) < 2:
        raise BadFile(shapes.source, f"reads its hint with {len(found)} layers, where two for each level are known")
    return tuple(shape[0] for shape in found[:-1:2]), found[0][1]


def _union(shapes: Shapes) -> UnionSpec:
    from atelier.models.controlnet import UnionSpec

    tasks, width = shapes.shape(TASKS, 2)
    return UnionSpec(tasks, width, shapes.count(MIXED))


def _facts(spec: ControlSpec) -> PartFacts:
    return PartFacts(heads=spec.unet.heads, groups=spec.unet.groups, size_width=spec.unet.size_width)


def _build(spec: ControlSpec) -> ControlNet:
    from atelier.models.controlnet import ControlNet

    return ControlNet(spec)


NETWORK = Architecture(infer, names.names, _build, _facts)
