"""ControlNets for the MMDiT on disk: their spec from their shapes and the transformer's."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from typing import TYPE_CHECKING

from atelier.families.shapes import Shapes

if TYPE_CHECKING:
    from atelier.models.mmdit import MMDiTSpec
    from atelier.models.mmdit_control import TransformerControlSpec

HINT = "pos_embed_input.proj.weight"
POOLED = "time_text_embed.text_embedder.linear_1.weight"
TEXT = "context_embedder.weight"
TABLE = "pos_embed.pos_embed"
BLOCK = "transformer_blocks.{}."


def infer(shapes: Shapes, model: MMDiTSpec) -> TransformerControlSpec:
    """model: of the transformer, whose heads it has. Raises BadFile where the shapes are no such ControlNet's."""
    from atelier.models.mmdit_control import TransformerControlSpec

    width, channels, patch, _ = shapes.shape(HINT, 4)
    depth, joint = shapes.count(BLOCK), TEXT in shapes.found
    dual = (i for i in range(depth) if any(name.startswith(f"{BLOCK.format(i)}attn2.") for name in shapes.found))
    own = replace(
        model,
        width=width,
        depth=depth,
        patch=patch,
        pooled=shapes.shape(POOLED, 2)[1],
        qk_norm=f"{BLOCK.format(0)}attn.norm_q.weight" in shapes.found,
        dual=tuple(dual),
    )
    if joint:
        inputs, places = shapes.shape("pos_embed.proj.weight", 4)[1], shapes.shape(TABLE, 3)[1]
        own = replace(own, in_channels=inputs, side=isqrt(places), context=shapes.shape(TEXT, 2)[1])
    return TransformerControlSpec(own, channels, joint)
