"""A checkpoint of Stable Diffusion 1.5's size with random weights: a 2 GB fp16 file, and diffusers' settings for it.

    python benchmarks/fake.py FOLDER

Writes FOLDER/sd15.safetensors (ldm names) and FOLDER/sd15 (a diffusers folder without weights, which diffusers wants
beside a single file), unless they are there. Prints their paths as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import needs  # isort: split

import torch
from torch import Tensor, nn

from atelier.checkpoints.write import Modules, write_ldm, write_settings
from atelier.families.facts import Facts
from atelier.families.sd1 import SD1
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.weights.load import load_into
from atelier.weights.tokenizer import standard

M = TypeVar("M", bound=nn.Module)


def main() -> None:
    needs.modules("torch")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    file, settings = folder / "sd15.safetensors", folder / "sd15"
    if not (file.exists() and settings.exists()):
        networks = {
            "unet": filled(lambda: UNet(UNetSpec()), seed=0),
            "vae": filled(lambda: AutoencoderKL(VaeSpec()), seed=1),
            "text": filled(lambda: ClipText(TextSpec()), seed=2),
        }
        model = Modules(SD1, networks, (standard(),), Facts())
        write_ldm(model, file)
        write_settings(model, settings)
    print(json.dumps({"file": str(file), "settings": str(settings)}))


def filled(build: Callable[[], M], seed: int) -> M:
    """A network with random weights in fp16: matrices of 1 / fan-in variance, norms of ones, biases of zeros."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build().state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    return load_into(build, {name: random(name, shape, generator) for name, shape in shapes.items()})


def random(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if len(shape) == 1:
        return (torch.zeros if name.endswith("bias") else torch.ones)(shape, dtype=torch.float16)
    return torch.randn(shape, generator=generator).div_(shape[1:].numel() ** 0.5).half()


if __name__ == "__main__":
    main()
