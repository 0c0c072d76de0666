"""Seconds from a 2 GB fp16 file to networks that are ready to compute: ours against diffusers' default.

    python benchmarks/load.py [--device cpu|cuda] [--rounds N] [--dtype fp32|bf16] [--model FOLDER] [--keep FOLDER]

Each load happens in a process of its own, in turn, with the imports done before the clock starts. The file is in the
page cache after the first round, which does not count. Our hash of the file, which is remembered, is no part of it.
There is no bound; the options are those of memory.py.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import needs
from harness import Timing, child, report, row
from memory import checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("fp32", "bf16"))
    parser.add_argument("--model", help="a diffusers folder to load instead")
    parser.add_argument("--keep", help="folder for the fake file")
    parser.add_argument("--side", choices=("ours", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    if options.side is not None:
        print(json.dumps(ours(options) if options.side == "ours" else reference(options)))
        return
    with checkpoint(options.model, options.keep) as (model, settings):
        common = ["--device", options.device, "--model", model, "--settings", settings]
        if options.dtype is not None:
            common += ["--dtype", options.dtype]
        seconds: dict[str, list[float]] = {"ours": [], "reference": []}
        for number in range(-1, options.rounds):
            for side in seconds if number % 2 else reversed(seconds):
                loaded = child(__file__, "--side", side, *common)
                if number >= 0:
                    seconds[side].append(loaded["seconds"])
    timing = Timing({side: tuple(values) for side, values in seconds.items()})
    report("load", options.device, [row("load", timing, "ours", "reference", None)], ("torch", "diffusers"))


def ours(options: argparse.Namespace) -> dict[str, Any]:
    from pathlib import Path

    from atelier.checkpoints.opening import open_checkpoint
    from atelier.pipeline.resources import AUTOENCODER, DENOISER, TEXT
    from atelier.request.resolved import ModelRef
    from atelier.runtime.device import pick
    from atelier.runtime.resources import LocalResources
    from atelier.weights.hashes import HashCache

    device, hashes = pick(options.device, options.dtype), HashCache()
    path = Path(options.model)
    model = ModelRef(name=path.stem, path=options.model, sha256=open_checkpoint(path).sha256(hashes))
    begun = time.perf_counter()
    resources = LocalResources(device, budget=2**40, hashes=hashes)
    for part in (TEXT, DENOISER, AUTOENCODER):
        with resources.borrow(model, part):
            pass
    wait(options.device)
    return {"seconds": time.perf_counter() - begun, "device": str(device)}


def reference(options: argparse.Namespace) -> dict[str, Any]:
    """diffusers' default, which is fp32; said aloud for a folder, which recent transformers would load mixed."""
    import torch
    from diffusers import StableDiffusionPipeline

    begun = time.perf_counter()
    if options.settings:
        pipe = StableDiffusionPipeline.from_single_file(
            options.model, config=options.settings, torch_dtype=torch.float32
        )
    else:
        pipe = StableDiffusionPipeline.from_pretrained(options.model, torch_dtype=torch.float32)
    pipe.to(options.device)
    wait(options.device)
    return {"seconds": time.perf_counter() - begun}


def wait(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
