"""Very small models of Stable Diffusion XL, its refiner and 2.x, with random weights."""

from __future__ import annotations

from dataclasses import replace

import tiny
from atelier.checkpoints.write import Modules
from atelier.families.facts import Facts
from atelier.families.sd2 import SD2
from atelier.families.sd2_x4_upscaler import UPSCALER
from atelier.families.sdxl import SDXL
from atelier.families.sdxl_refiner import REFINER
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.weights.tokenizer import ClipTokenizer

SIZE = 64
VAE = {"vae": tiny.modules().networks["vae"]}
L, G = 32, 48
"""Widths of the two text encoders."""
SIZE_WIDTH = 8


def tokenizers() -> tuple[ClipTokenizer, ClipTokenizer]:
    """The same words; the second pads with the token of id 0."""
    return tiny.tokenizer(), replace(tiny.tokenizer(), pad_token="!")


def _tower(width: int, projection: int | None, layers: int = 3) -> ClipText:
    words = tiny.tokenizer()
    spec = TextSpec(
        vocab=words.size,
        width=width,
        layers=layers,
        heads=2,
        mlp=64,
        positions=words.positions,
        act="quick_gelu" if width == L else "gelu",
        projection=projection,
        eos=words.eos,
    )
    net = ClipText(spec)
    tiny.randomize(net, width)
    return net


def _unet(**spec: object) -> UNet:
    net = UNet(UNetSpec(**{"widths": (32, 64), "blocks": 1, "groups": 8, "linear_proj": True, **spec}))
    tiny.randomize(net, 5)
    return net


def sdxl(in_channels: int = 4, **facts: object) -> Modules:
    """No attention on top, two transformers deep below it."""
    unet = _unet(
        in_channels=in_channels,
        depth=(0, 2),
        mid_depth=2,
        heads=(1, 2),
        context=L + G,
        vector=G + 6 * SIZE_WIDTH,
        size_width=SIZE_WIDTH,
    )
    networks = {**VAE, "unet": unet, "text": _tower(L, None), "text2": _tower(G, G)}
    return Modules(SDXL, networks, tokenizers(), Facts(**{"size": SIZE, "latent_scale": 0.13025, **facts}))


def refiner() -> Modules:
    unet = _unet(depth=(0, 2), mid_depth=2, heads=(1, 2), context=G, vector=G + 5 * SIZE_WIDTH, size_width=SIZE_WIDTH)
    facts = Facts(size=SIZE, latent_scale=0.13025)
    return Modules(REFINER, {**VAE, "unet": unet, "text2": _tower(G, G)}, tokenizers()[1:], facts)


def sd2(*, whole: bool = True, in_channels: int = 4, **facts: object) -> Modules:
    """whole: with the last layer of the text encoder and the projection behind it, as in Stability's files."""
    unet = _unet(in_channels=in_channels, depth=(1, 1), heads=(1, 2), context=G)
    text = _tower(G, G if whole else None, 3 if whole else 2)
    known = Facts(**{"prediction": "velocity", "size": SIZE, **facts})
    return Modules(SD2, {**VAE, "unet": unet, "text": text}, tokenizers()[1:], known)


def x4_upscaler(side: int = SIZE) -> Modules:
    """No attention on top, and only the text below that; the middle attends to itself."""
    unet = _unet(
        in_channels=7,
        widths=(32, 64, 64),
        depth=(0, 1, 1),
        heads=(2, 2, 2),
        context=G,
        noise_levels=400,
        only_cross=(False, True, False),
    )
    facts = Facts(prediction="velocity", size=side, latent_scale=0.08333, beta_start=0.0001, beta_end=0.02)
    return Modules(UPSCALER, {**VAE, "unet": unet, "text": _tower(G, G)}, tokenizers()[1:], facts)
