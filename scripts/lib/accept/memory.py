"""Whether memory stays flat while two models take turns.

    scripts/accept memory [--switches N] [--models A B] [--json]

Two models of Stable Diffusion 1.5's shape at a quarter of its widths, with random weights, or two of your own, generate
an image each in turn, in one engine whose budget holds one of them: every switch forgets the networks of the one and
reads those of the other. After each switch the memory of the process is read.

Exit code 0: from the second round on it varies by 50 MB at most; 1: by more.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from atelier.checkpoints.write import Modules, write_ldm
from atelier.compose import engine
from atelier.families.facts import Facts
from atelier.families.sd1 import SD1
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.request.table import request_of
from atelier.runtime.threads import settle_process
from atelier.weights.tokenizer import standard

MB = 2**20
BOUND = 50
"""Megabytes."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--switches", type=int, default=20)
    parser.add_argument("--models", nargs=2, default=None, metavar=("A", "B"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    settle_process(os.environ)
    with tempfile.TemporaryDirectory() as place:
        models = options.models or [
            str(made(Path(place) / f"{name}.safetensors", seed)) for seed, name in enumerate("ab")
        ]
        found = measured(models, options.switches)
    spread = max(found[2:]) - min(found[2:])
    told = {"megabytes": found, "spread": spread}
    print(json.dumps(told) if options.json else f"{' '.join(map(str, found))} MB: {spread} MB apart")
    return 0 if spread <= BOUND else 1


def measured(models: Sequence[str], switches: int) -> list[int]:
    """Megabytes that the process holds after each switch."""
    own = engine(device="cpu")
    found: list[int] = []
    for number in range(switches):
        fields = {"prompt": "a cat", "model": models[number % 2], "steps": 1, "width": 64, "height": 64, "seed": number}
        own.generate(request_of(fields))
        own.resources.cache.budget = own.resources.cache.bytes if number == 0 else own.resources.cache.budget
        found.append(held())
    return found


def held() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 // MB


def made(path: Path, seed: int) -> Path:
    """A checkpoint in fp16."""
    torch.manual_seed(seed)
    nets: dict[str, nn.Module] = {
        "unet": UNet(UNetSpec(widths=(80, 160, 320, 320), heads=(2, 2, 2, 2), groups=16)),
        "vae": AutoencoderKL(VaeSpec(widths=(32, 64, 128, 128))),
        "text": ClipText(TextSpec()),
    }
    write_ldm(Modules(SD1, {name: net.half() for name, net in nets.items()}, (standard(),), Facts()), path)
    return path


if __name__ == "__main__":
    sys.exit(main())
