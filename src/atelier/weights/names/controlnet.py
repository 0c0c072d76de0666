"""Names of ControlNets for U-Nets. The ldm column is cldm's, without `control_model.` in front.

Unions have no names of cldm; their own layers have diffusers' in both columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name, both
from atelier.weights.names.unet import encoder

if TYPE_CHECKING:
    from atelier.models.controlnet import ControlSpec, UnionSpec


def names(spec: ControlSpec) -> Iterator[Name]:
    """Every parameter of `ControlNet(spec)`."""
    yield from encoder(spec.unet)
    yield from own(spec)


def own(spec: ControlSpec) -> Iterator[Name]:
    """Those of the layers that the U-Net does not have."""
    last = 2 * len(spec.hint) - 1
    for place in range(last + 1):
        theirs = "conv_in" if place == 0 else "conv_out" if place == last else f"blocks.{place - 1}"
        yield from both(f"hint.convs.{place}", f"input_hint_block.{2 * place}", f"controlnet_cond_embedding.{theirs}")
    for place in range(len(spec.outputs)):
        yield from both(f"outs.{place}", f"zero_convs.{place}.0", f"controlnet_down_blocks.{place}")
    yield from both("out_middle", "middle_block_out.0", "controlnet_mid_block")
    if spec.union is not None:
        yield from _union(spec.union)


def _union(spec: UnionSpec) -> Iterator[Name]:
    yield Name("union.tasks", "task_embedding", "task_embedding")
    for place in range(spec.layers):
        ours, theirs = f"union.layers.{place}", f"transformer_layes.{place}"
        for kind in ("weight", "bias"):
            joined = f"{theirs}.attn.in_proj_{kind}"
            yield Name(f"{ours}.in_proj.{kind}", joined, joined)
        for layer, there in _MIXING:
            yield from both(f"{ours}.{layer}", f"{theirs}.{there}", f"{theirs}.{there}")
    yield from both("union.to_channels", "spatial_ch_projs", "spatial_ch_projs")
    for number in (1, 2):
        theirs = f"control_add_embedding.linear_{number}"
        yield from both(f"union.embedding.linear{number}", theirs, theirs)


_MIXING = (
    ("out_proj", "attn.out_proj"),
    ("norm1", "ln_1"),
    ("norm2", "ln_2"),
    ("fc1", "mlp.c_fc"),
    ("fc2", "mlp.c_proj"),
)
