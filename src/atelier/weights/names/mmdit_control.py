"""Names of ControlNets for the MMDiT. The ldm column is Stability AI's, whose files have one stream; of two streams it
has the transformer's own and is in no file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names import mmdit
from atelier.weights.names.name import Name, both

if TYPE_CHECKING:
    from atelier.models.mmdit_control import TransformerControlSpec


def names(spec: TransformerControlSpec) -> Iterator[Name]:
    """Every parameter of `TransformerControl(spec)` that is its own: those for the large 3.5 have no tokens."""
    if spec.joint:
        yield from mmdit.places()
    yield from both("hint_embedding", "pos_embed_input.proj", "pos_embed_input.proj")
    yield from mmdit.told(context=spec.joint)
    for index in range(spec.mmdit.depth):
        if spec.joint:
            yield from mmdit.block(spec.mmdit, index, last=False)
        else:
            yield from mmdit.image_stream(spec.mmdit, index, f"transformer_blocks.{index}")
        yield from both(f"outs.{index}", f"controlnet_blocks.{index}", f"controlnet_blocks.{index}")
