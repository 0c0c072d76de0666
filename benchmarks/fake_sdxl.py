"""A checkpoint of Stable Diffusion XL's size with random weights: a 6.9 GB fp16 file, and diffusers' settings for it.

    python benchmarks/fake_sdxl.py FOLDER

Writes FOLDER/sdxl.safetensors (Stability's names) and FOLDER/sdxl (a diffusers folder without weights), unless they are
there. Prints their paths as JSON. Of no two tensors both are in memory.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import needs  # isort: split

import torch
from torch import Tensor

from atelier.checkpoints.write import Modules, write_settings
from atelier.families.facts import Facts
from atelier.families.parts.openclip import padded_with_zero
from atelier.families.sdxl import SDXL
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.weights.formats import safetensors
from atelier.weights.save import stored_as
from atelier.weights.tokenizer import standard

BLOCK = 2**22
"""Random numbers that all tensors are made of: drawing three thousand million of them takes minutes."""


def main() -> None:
    needs.modules("torch")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    file, settings = folder / "sdxl.safetensors", folder / "sdxl"
    model = networks()
    if not file.exists():
        write(model, file)
    if not settings.exists():
        write_settings(model, settings)
    print(json.dumps({"file": str(file), "settings": str(settings)}))


def networks() -> Modules:
    """The published sizes, without memory for their tensors."""
    second = TextSpec(width=1280, layers=32, heads=20, mlp=5120, act="gelu", projection=1280)
    unet = UNetSpec(
        widths=(320, 640, 1280),
        depth=(0, 2, 10),
        mid_depth=10,
        heads=(5, 10, 20),
        context=2048,
        linear_proj=True,
        vector=2816,
    )
    with torch.device("meta"):
        built = {
            "unet": UNet(unet),
            "vae": AutoencoderKL(VaeSpec()),
            "text": ClipText(TextSpec()),
            "text2": ClipText(second),
        }
    facts = Facts(size=1024, latent_scale=0.13025)
    return Modules(SDXL, built, (standard(), padded_with_zero()), facts)


def write(model: Modules, file: Path) -> None:
    """Every tensor in fp16 under the name and in the shape of the published file."""
    shapes = dict(stored(model))
    declared = {name: ("F16", shape) for name, shape in shapes.items()}
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0))
    safetensors.save_each(file, declared, lambda name: random(name, shapes[name], block), {"format": "pt"})


def stored(model: Modules) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in model.family.parts:
        names = part.network.names(model.spec(part))
        for name, tensor in stored_as(model.tensors(part), names, "ldm", part.prefix).items():
            yield name, tuple(tensor.shape)


def random(name: str, shape: tuple[int, ...], block: Tensor) -> Tensor:
    """Matrices of 1 / fan-in variance, norms of ones, biases of zeros."""
    if len(shape) == 1:
        return (torch.zeros if name.endswith("bias") else torch.ones)(shape, dtype=torch.float16)
    count, fan_in = math.prod(shape), math.prod(shape[1:])
    scaled = block[:count].mul(fan_in**-0.5).half()
    return scaled.repeat(-(-count // len(scaled)))[:count].reshape(shape)


if __name__ == "__main__":
    main()
