"""A small U-Net of diffusers and ours with its weights, built like that of Stable Diffusion 1.x."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch

from atelier.models.unet import UNet, UNetSpec
from atelier.weights.load import load_into, read
from atelier.weights.names.unet import names
from weights_support import fill, stored

SPEC = UNetSpec(widths=(16, 16, 32, 32), heads=(2, 2, 2, 2), context=24, groups=8)


@functools.cache
def theirs() -> torch.nn.Module:
    """diffusers' network. What a test changes in it, it puts back."""
    from diffusers import UNet2DConditionModel

    net = UNet2DConditionModel(
        block_out_channels=SPEC.widths,
        attention_head_dim=2,  # the number of heads, in spite of its name
        cross_attention_dim=SPEC.context,
        norm_num_groups=SPEC.groups,
    )
    return fill(net).requires_grad_(requires_grad=False)


@functools.cache
def ours() -> UNet:
    """Our network with the same weights. What a test changes in it, it puts back."""
    with tempfile.TemporaryDirectory() as folder:
        tensors = read(stored(theirs(), Path(folder)), names(SPEC), mapped=False)
    return load_into(lambda: UNet(SPEC), tensors).requires_grad_(requires_grad=False)


def foreign(path: str) -> str:
    """What diffusers calls the attention that our ports call `path`."""
    return next(n.diffusers for n in names(SPEC) if n.ours == f"{path}.to_q.weight").removesuffix(".to_q.weight")
