"""T2I-Adapters in their authors' and diffusers' layouts: full and light ones, styles, and what joins several."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, Kind, Seen

PREFIXES = ("", "adapter.")
SQUARES = {64: "sd1", 192: "sd1", 256: "sdxl", 768: "sdxl"}
"""Channels of the unshuffled hint (8x8 or 16x16 pixels, grey or colour), and the family that has them."""
READ = ("full", "light")
"""Variants that can be used."""


def recognise(seen: Seen) -> Identity | None:
    if seen.has("task_embedding", "seq_proj"):
        return Identity("t2i_adapter", "sd1", "fuser")
    if seen.has("style_embedding", "proj"):
        return Identity("t2i_adapter", "sd1", "style")
    return next((own for prefix in PREFIXES if (own := _at(seen.below(prefix)))), None)


def _at(seen: Seen) -> Identity | None:
    if seen.has("conv_in.weight", "body.0.block1.weight") or seen.has(
        "conv_in.weight", "body.0.resnets.0.block1.weight"
    ):
        channels, variant = seen.extent("conv_in.weight", 1), "full"
    elif seen.has("body.0.in_conv.weight", "body.0.out_conv.weight"):
        channels, variant = seen.extent("body.0.in_conv.weight", 1), "light"
    else:
        return None
    family = SQUARES.get(channels or 0)
    return Identity("t2i_adapter", family, variant)


SPECS = (Kind("t2i_adapter", "T2I-Adapter", recognise, reads=lambda own: own.variant in READ),)
