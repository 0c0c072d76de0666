"""Names of the U-Net. The ldm column has no `model.diffusion_model.` in front."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name, Pointwise, both, weight

if TYPE_CHECKING:
    from atelier.models.unet import UNetSpec


def names(spec: UNetSpec) -> Iterator[Name]:
    """Every parameter of `UNet(spec)`, in order of execution."""
    yield from encoder(spec)
    for index in range(len(spec.widths)):
        yield from _up(spec, index)
    yield from both("norm_out", "out.0", "conv_norm_out")
    yield from both("conv_out", "out.2", "conv_out")


def encoder(spec: UNetSpec) -> Iterator[Name]:
    """Those of the way down and the middle, with what the network is told beside the text."""
    yield from both("time_embedding.linear1", "time_embed.0", "time_embedding.linear_1")
    yield from both("time_embedding.linear2", "time_embed.2", "time_embedding.linear_2")
    if spec.guidance is not None:
        yield weight("guidance", "time_embed.cond_proj", "time_embedding.cond_proj")
    if spec.vector is not None:
        yield from both("vector_embedding.linear1", "label_emb.0.0", "add_embedding.linear_1")
        yield from both("vector_embedding.linear2", "label_emb.0.2", "add_embedding.linear_2")
    if spec.noise_levels is not None:
        yield weight("level_embedding", "label_emb", "class_embedding")
    yield from both("conv_in", "input_blocks.0.0", "conv_in")
    for level in range(len(spec.widths)):
        yield from _down(spec, level)
    yield from _resnet("middle.resnet1", "middle_block.0", "mid_block.resnets.0", shortcut=False)
    if spec.attends[-1]:
        yield from _transformer(spec, spec.mid_depth, "middle.attention", "middle_block.1", "mid_block.attentions.0")
        yield from _resnet("middle.resnet2", "middle_block.2", "mid_block.resnets.1", shortcut=False)


def _down(spec: UNetSpec, level: int) -> Iterator[Name]:
    ours, theirs = f"down.{level}", f"down_blocks.{level}"
    first = level * (spec.blocks + 1) + 1
    grows = spec.widths[max(level - 1, 0)] != spec.widths[level]
    for j in range(spec.blocks):
        block = f"input_blocks.{first + j}"
        yield from _resnet(f"{ours}.resnets.{j}", f"{block}.0", f"{theirs}.resnets.{j}", shortcut=grows and j == 0)
        if spec.attends[level]:
            parts = f"{ours}.attentions.{j}", f"{block}.1", f"{theirs}.attentions.{j}"
            yield from _transformer(spec, spec.depth[level], *parts)
    if level < len(spec.widths) - 1:
        op = f"input_blocks.{first + spec.blocks}.0.op"
        yield from both(f"{ours}.downsample.conv", op, f"{theirs}.downsamplers.0.conv")


def _up(spec: UNetSpec, index: int) -> Iterator[Name]:
    """A block on the way up takes a skip connection beside its input, so its shortcut is always there."""
    ours, theirs = f"up.{index}", f"up_blocks.{index}"
    level = len(spec.widths) - 1 - index
    depth = spec.depth[level]
    for j in range(spec.blocks + 1):
        block = f"output_blocks.{index * (spec.blocks + 1) + j}"
        yield from _resnet(f"{ours}.resnets.{j}", f"{block}.0", f"{theirs}.resnets.{j}", shortcut=True)
        if depth:
            yield from _transformer(spec, depth, f"{ours}.attentions.{j}", f"{block}.1", f"{theirs}.attentions.{j}")
    if level > 0:
        last = f"output_blocks.{index * (spec.blocks + 1) + spec.blocks}"
        yield from both(f"{ours}.upsample.conv", f"{last}.{2 if depth else 1}.conv", f"{theirs}.upsamplers.0.conv")


def _resnet(ours: str, ldm: str, theirs: str, *, shortcut: bool) -> Iterator[Name]:
    yield from both(f"{ours}.norm1", f"{ldm}.in_layers.0", f"{theirs}.norm1")
    yield from both(f"{ours}.conv1", f"{ldm}.in_layers.2", f"{theirs}.conv1")
    yield from both(f"{ours}.time_proj", f"{ldm}.emb_layers.1", f"{theirs}.time_emb_proj")
    yield from both(f"{ours}.norm2", f"{ldm}.out_layers.0", f"{theirs}.norm2")
    yield from both(f"{ours}.conv2", f"{ldm}.out_layers.3", f"{theirs}.conv2")
    if shortcut:
        yield from both(f"{ours}.shortcut", f"{ldm}.skip_connection", f"{theirs}.conv_shortcut")


def _transformer(spec: UNetSpec, depth: int, ours: str, ldm: str, theirs: str) -> Iterator[Name]:
    dimensions = 2 if spec.linear_proj else 4
    rule = Pointwise(dimensions, dimensions, dimensions)
    yield from both(f"{ours}.norm", f"{ldm}.norm", f"{theirs}.norm")
    yield from both(f"{ours}.proj_in", f"{ldm}.proj_in", f"{theirs}.proj_in", rule=rule)
    for k in range(depth):
        inner = f"transformer_blocks.{k}"
        yield from _block(f"{ours}.blocks.{k}", f"{ldm}.{inner}", f"{theirs}.{inner}")
    yield from both(f"{ours}.proj_out", f"{ldm}.proj_out", f"{theirs}.proj_out", rule=rule)


def _block(ours: str, ldm: str, theirs: str) -> Iterator[Name]:
    for norm, attention in (("norm1", "attn1"), ("norm2", "attn2")):
        yield from both(f"{ours}.{norm}", f"{ldm}.{norm}", f"{theirs}.{norm}")
        for to in ("to_q", "to_k", "to_v"):
            yield weight(f"{ours}.{attention}.{to}", f"{ldm}.{attention}.{to}", f"{theirs}.{attention}.{to}")
        yield from both(f"{ours}.{attention}.to_out", f"{ldm}.{attention}.to_out.0", f"{theirs}.{attention}.to_out.0")
    yield from both(f"{ours}.norm3", f"{ldm}.norm3", f"{theirs}.norm3")
    yield from both(f"{ours}.ff.proj_in", f"{ldm}.ff.net.0.proj", f"{theirs}.ff.net.0.proj")
    yield from both(f"{ours}.ff.proj_out", f"{ldm}.ff.net.2", f"{theirs}.ff.net.2")
