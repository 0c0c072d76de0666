"""A very small Stable Diffusion with random weights, on disk in either layout."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from atelier.checkpoints.write import Modules, write_diffusers, write_ldm
from atelier.families.facts import Facts
from atelier.families.sd1 import SD1
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.weights.tokenizer import ClipTokenizer

MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"), ("r", "e"), ("re", "d</w>")]
SIZE = 64
FACTOR = 4


def tokenizer() -> ClipTokenizer:
    return ClipTokenizer.from_merges(MERGES, positions=12)


def modules(prediction: str = "velocity", in_channels: int = 4) -> Modules:
    """Three networks, a function of nothing: the same weights every time."""
    words = tokenizer()
    text = ClipText(
        TextSpec(vocab=words.size, width=32, layers=2, heads=2, mlp=64, positions=words.positions, eos=words.eos)
    )
    unet = UNet(
        UNetSpec(in_channels=in_channels, widths=(32, 64), blocks=1, depth=(1, 1), heads=(2, 2), context=32, groups=8)
    )
    vae = AutoencoderKL(VaeSpec(widths=(16, 16, 32), blocks=1, groups=8))
    for number, network in enumerate((text, unet, vae)):
        randomize(network, number)
    facts = Facts(prediction=prediction, size=SIZE, latent_scale=0.5)
    return Modules(SD1, {"unet": unet, "vae": vae, "text": text}, (words,), facts)


def randomize(network: nn.Module, seed: int) -> None:
    """Unit gain for layers, about one for the scales of norms."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(1 + 0.1 * noise if bool((parameter == 1).all()) else 0.1 * noise)


def folder(path: Path, **how: object) -> Path:
    """A diffusers folder at `path`."""
    write_diffusers(modules(**how), path)
    return path


def single_file(path: Path, **how: object) -> Path:
    """A single file at `path`."""
    write_ldm(modules(**how), path)
    return path
