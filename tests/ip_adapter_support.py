"""Files of IP-Adapters in the names of their authors, and diffusers' U-Net with them loaded."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.models.unet import UNet, UNetSpec
from atelier.weights.load import load_into, read
from atelier.weights.names.unet import names
from weights_support import fill, stored, weight_of

CONTEXT, CLIP, FACE = 128, 48, 512
SPEC = UNetSpec(widths=(16, 32, 32), blocks=1, depth=(1, 2, 0), mid_depth=2, heads=(2, 2, 2), context=CONTEXT, groups=8)
"""Attention of two depths on the way down and up, none on the last level, and in the middle."""
X, T = torch.randn(2, 4, 16, 24, generator=torch.Generator().manual_seed(0)), torch.tensor([7.0, 901.0])
TEXT = torch.randn(2, 5, CONTEXT, generator=torch.Generator().manual_seed(1))
WIDTHS = (16, 32, 32, 32, 32, 32, 32, 16, 16, 32, 32)
"""Of the attentions to the text in the order of such a file, counted by hand: down 1 + 2, up 2 * 2 + 2, middle 2."""
VARIANTS = ("base", "plus", "full_face", "faceid", "faceid_portrait", "faceid_plus", "instantid")
Shapes = dict[str, tuple[int, ...]]


def random(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _layer(name: str, rows: int, columns: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (rows, columns)} | ({f"{name}.bias": (rows,)} if bias else {})


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _perceiver(at: str, features: int, tokens: int = 0) -> Shapes:
    """Four layers, as all published ones have, and two heads of 64."""
    width = CONTEXT
    made: Shapes = {f"{at}latents": (1, tokens, width)} if tokens else {}
    made |= _layer(f"{at}proj_in", width, features) | _layer(f"{at}proj_out", CONTEXT, width)
    made |= _norm(f"{at}norm_out", CONTEXT)
    for i in range(4):
        attention, ff = f"{at}layers.{i}.0", f"{at}layers.{i}.1"
        made |= _norm(f"{attention}.norm1", width) | _norm(f"{attention}.norm2", width)
        made |= _layer(f"{attention}.to_q", width, width, bias=False)
        made |= _layer(f"{attention}.to_kv", 2 * width, width, bias=False)
        made |= _layer(f"{attention}.to_out", width, width, bias=False)
        made |= _norm(f"{ff}.0", width) | _layer(f"{ff}.1", 4 * width, width, bias=False)
        made |= _layer(f"{ff}.3", width, 4 * width, bias=False)
    return made


def image_proj(variant: str) -> Shapes:
    """What makes tokens of an image, without `image_proj.`."""
    match variant:
        case "base":
            return _layer("proj", 4 * CONTEXT, CLIP) | _norm("norm", CONTEXT)
        case "plus":
            return _perceiver("", CLIP, 16)
        case "instantid":
            return _perceiver("", FACE, 16)
        case "full_face":
            return _layer("proj.0", CLIP, CLIP) | _layer("proj.2", CONTEXT, CLIP) | _norm("proj.3", CONTEXT)
        case "faceid_plus":
            return image_proj("faceid") | _perceiver("perceiver_resampler.", CLIP)
        case _:
            tokens = 16 if variant == "faceid_portrait" else 4
            made = _layer("proj.0", 2 * FACE, FACE) | _layer("proj.2", tokens * CONTEXT, 2 * FACE)
            return made | _norm("norm", CONTEXT)


@functools.cache
def file_of(variant: str) -> dict[str, dict[str, Tensor]]:
    """The two dictionaries of such a file."""
    layers: Shapes = {}
    for i, width in enumerate(WIDTHS):
        for kind in ("k", "v"):
            layers |= {f"{2 * i + 1}.to_{kind}_ip.weight": (width, CONTEXT)}
    parts = {"image_proj": image_proj(variant), "ip_adapter": layers}
    return {
        part: {name: weight_of(f"{variant}.{name}", torch.Size(shape)) for name, shape in own.items()}
        for part, own in parts.items()
    }


def flat(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for part, own in parts.items() for name, tensor in own.items()}


def saved(variant: str, path: Path) -> Path:
    """As .safetensors, or else as .bin."""
    parts = file_of(variant)
    if path.suffix == ".safetensors":
        save_file(flat(parts), path)
    else:
        torch.save(parts, path)
    return path


def features(variant: str, count: int = 2) -> dict[str, Tensor]:
    """What each variant reads: states of 7 places, embeddings, faces."""
    states = {"image": random(count, 7, CLIP), "absent": random(1, 7, CLIP, seed=4)}
    match variant:
        case "base":
            return {"image": random(count, CLIP), "absent": torch.zeros(1, CLIP)}
        case "plus" | "full_face":
            return states
        case "faceid_plus":
            return {**states, "face": random(count, FACE, seed=5)}
        case _:
            return {"face": random(count, FACE, seed=5)}


@functools.cache
def diffusers_unet(variant: str | None = None) -> Any:
    """diffusers' network, with such a file loaded, FaceID-plus as of the second version. What a test changes in it, it
    puts back."""
    from diffusers import UNet2DConditionModel

    net = UNet2DConditionModel(
        block_out_channels=SPEC.widths,
        attention_head_dim=2,  # the number of heads, in spite of its name
        layers_per_block=1,
        transformer_layers_per_block=(1, 2, 2),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=CONTEXT,
        norm_num_groups=8,
    )
    fill(net).requires_grad_(requires_grad=False)
    if variant is not None:
        net._load_ip_adapter_weights([file_of(variant)], low_cpu_mem_usage=False)
        net.eval().requires_grad_(requires_grad=False)
        projection(net).shortcut = True
    return net


def projection(net: Any) -> Any:
    return net.encoder_hid_proj.image_projection_layers[0]


def our_unet(folder: Path) -> UNet:
    tensors = read(stored(diffusers_unet(), folder), names(SPEC), mapped=False)
    return load_into(lambda: UNet(SPEC), tensors)


def model(family: str = "sd1", spec: UNetSpec = SPEC) -> Checkpoint:
    """What an IP-Adapter asks a model: its family, and what shapes its U-Net."""
    own = SimpleNamespace(name=family, title={"sd1": "Stable Diffusion 1.x", "sdxl": "Stable Diffusion XL"}[family])
    return SimpleNamespace(name="tiny", family=own, spec=lambda _: spec, has=lambda _: True)  # type: ignore[return-value]
