"""ControlNets for the MMDiT on disk: their spec from their shapes and the transformer's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from typing import TYPE_CHECKING

from atelier.families.shapes import Shapes
from atelier.weights.names.name import Layout

if TYPE_CHECKING:
    from atelier.models.mmdit import MMDiTSpec
    from atelier.models.mmdit_control import TransformerControlSpec

HINT = "pos_embed_input.proj.weight"
POOLED: Mapping[Layout, str] = {
    "diffusers": "time_text_embed.text_embedder.linear_1.weight",
    "ldm": "y_embedder.mlp.0.weight",
}
NORMED: Mapping[Layout, str] = {"diffusers": "attn.norm_q.weight", "ldm": "attn.ln_q.weight"}
"""What norms queries, behind the name of a block."""
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
        pooled=shapes.shape(POOLED[shapes.layout], 2)[1],
        qk_norm=BLOCK.format(0) + NORMED[shapes.layout] in shapes.found,
        dual=tuple(dual),
    )
    if joint:
        inputs, places = shapes.shape("pos_embed.proj.weight", 4)[1], shapes.shape(TABLE, 3)[1]
        own = replace(own, in_channels=inputs, side=isqrt(places), context=shapes.shape(TEXT, 2)[1])
    return TransformerControlSpec(own, channels, joint)
