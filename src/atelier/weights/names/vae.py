"""Names of the KL autoencoder. The ldm column has no `first_stage_model.` in front."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name, Pointwise, both

if TYPE_CHECKING:
    from atelier.models.vae import VaeSpec

_ATTENTION = (("to_q", "q", "to_q", "query"), ("to_k", "k", "to_k", "key"), ("to_v", "v", "to_v", "value"))
_ATTENTION_OUT = ("to_out", "proj_out", "to_out.0", "proj_attn")


def names(spec: VaeSpec) -> Iterator[Name]:
    """Every parameter of `AutoencoderKL(spec)`; diffusers' older spelling of the attention is read too."""
    yield from _encoder(spec)
    yield from _decoder(spec)
    if spec.quant_conv:
        yield from both("quant_conv", "quant_conv", "quant_conv")
        yield from both("post_quant_conv", "post_quant_conv", "post_quant_conv")


def _encoder(spec: VaeSpec) -> Iterator[Name]:
    yield from both("encoder.conv_in", "encoder.conv_in", "encoder.conv_in")
    for i, width in enumerate(spec.widths):
        ours, ldm, theirs = f"encoder.down.{i}", f"encoder.down.{i}", f"encoder.down_blocks.{i}"
        grows = i > 0 and spec.widths[i - 1] != width
        for j in range(spec.blocks):
            parts = f"{ours}.resnets.{j}", f"{ldm}.block.{j}", f"{theirs}.resnets.{j}"
            yield from _resnet(*parts, shortcut=grows and j == 0)
        if i < len(spec.widths) - 1:
            yield from both(f"{ours}.downsample.conv", f"{ldm}.downsample.conv", f"{theirs}.downsamplers.0.conv")
    yield from _middle(spec, "encoder")
    yield from _ends("encoder")


def _decoder(spec: VaeSpec) -> Iterator[Name]:
    """Levels count from the narrowest image in our and diffusers' names, from the widest in ldm's."""
    levels = len(spec.widths)
    yield from both("decoder.conv_in", "decoder.conv_in", "decoder.conv_in")
    yield from _middle(spec, "decoder")
    for i, width in enumerate(reversed(spec.widths)):
        ours, ldm, theirs = f"decoder.up.{i}", f"decoder.up.{levels - 1 - i}", f"decoder.up_blocks.{i}"
        shrinks = i > 0 and spec.widths[levels - i] != width
        for j in range(spec.blocks + 1):
            parts = f"{ours}.resnets.{j}", f"{ldm}.block.{j}", f"{theirs}.resnets.{j}"
            yield from _resnet(*parts, shortcut=shrinks and j == 0)
        if i < levels - 1:
            yield from both(f"{ours}.upsample.conv", f"{ldm}.upsample.conv", f"{theirs}.upsamplers.0.conv")
    yield from _ends("decoder")


def _ends(half: str) -> Iterator[Name]:
    yield from both(f"{half}.norm_out", f"{half}.norm_out", f"{half}.conv_norm_out")
    yield from both(f"{half}.conv_out", f"{half}.conv_out", f"{half}.conv_out")


def _middle(spec: VaeSpec, half: str) -> Iterator[Name]:
    ours, ldm, theirs = f"{half}.middle", f"{half}.mid", f"{half}.mid_block"
    yield from _resnet(f"{ours}.resnet1", f"{ldm}.block_1", f"{theirs}.resnets.0", shortcut=False)
    if spec.mid_attention:
        yield from _attention(f"{ours}.attention", f"{ldm}.attn_1", f"{theirs}.attentions.0")
    yield from _resnet(f"{ours}.resnet2", f"{ldm}.block_2", f"{theirs}.resnets.1", shortcut=False)


def _resnet(ours: str, ldm: str, theirs: str, *, shortcut: bool) -> Iterator[Name]:
    for layer in ("norm1", "conv1", "norm2", "conv2"):
        yield from both(f"{ours}.{layer}", f"{ldm}.{layer}", f"{theirs}.{layer}")
    if shortcut:
        yield from both(f"{ours}.shortcut", f"{ldm}.nin_shortcut", f"{theirs}.conv_shortcut")


def _attention(ours: str, ldm: str, theirs: str) -> Iterator[Name]:
    yield from both(f"{ours}.norm", f"{ldm}.norm", f"{theirs}.group_norm")
    for our, single, folder, old in (*_ATTENTION, _ATTENTION_OUT):
        rule = Pointwise(ours=2, ldm=4, diffusers=2)
        for name in both(f"{ours}.{our}", f"{ldm}.{single}", f"{theirs}.{folder}", rule=rule):
            kind = name.ours.rsplit(".", 1)[1]
            yield replace(name, also=(f"{theirs}.{old}.{kind}",))
