"""Seconds to apply a LoRA to Stable Diffusion 1.5 that is in memory: the file read, its weights merged into a network.

    python benchmarks/lora.py [--device cpu|cuda] [--rounds N] [--dtype fp32|bf16] [--rank N] [--keep FOLDER]

The LoRA has the 264 layers of kohya's default targets, in fp16, with random weights. Each round applies it at another
strength, so that nothing of the round before is found again. Prints one JSON object; the bound is 1 s on two cores.
`processor_seconds` are those of all threads together, which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import needs
from harness import machine, peak_memory, waiter
from memory import checkpoint

BOUND = 1.0
TARGETS = ("attn1.", "attn2.", "ff.", "proj_in", "proj_out", "attn.", "mlp.")
"""In the paths of the layers that kohya's scripts train by default."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("fp32", "bf16"))
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--model", help="a diffusers folder or file to use instead")
    parser.add_argument("--keep", help="folder for the fake file")
    options = parser.parse_args()
    needs.modules("safetensors")
    with checkpoint(options.model, options.keep) as (model, _), tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(model), Path(folder) / "lora.safetensors", options)
    print(json.dumps({"benchmark": "lora", **machine(options.device), **rows, "bound": BOUND}, indent=1))


def measured(path: Path, target: Path, options: argparse.Namespace) -> dict[str, object]:
    """Seconds for both networks together, of each round."""
    from atelier.checkpoints.opening import open_checkpoint
    from atelier.pipeline.resources import DENOISER, TEXT, Adapted, Merged
    from atelier.request.resolved import AdapterRef
    from atelier.runtime.device import pick
    from atelier.runtime.resources import LocalResources
    from atelier.weights.hashes import file_sha256

    model = open_checkpoint(path)
    layers = write(model, target, options.rank)
    device = pick(options.device, options.dtype)
    resources, wait = LocalResources(device, budget=0), waiter(options.device)
    reference = resources.refer(path.stem, model)
    file = AdapterRef(name="lora", path=str(target), sha256=file_sha256(target), digits="")
    seconds: list[float] = []
    processor: list[float] = []
    with resources.borrow(reference, TEXT), resources.borrow(reference, DENOISER):
        for number in range(options.rounds + 1):
            adapted = Adapted((Merged(file, 1.0 - number / 16),))
            begun, worked = time.perf_counter(), time.process_time()
            with resources.borrow(reference, TEXT, adapted), resources.borrow(reference, DENOISER, adapted):
                wait()
                seconds.append(time.perf_counter() - begun)
                processor.append(time.process_time() - worked)
    return {
        "layers": layers,
        "rank": options.rank,
        "seconds": statistics.median(seconds[1:]),
        "rounds": seconds[1:],
        "processor_seconds": statistics.median(processor[1:]),
        "peak_bytes": peak_memory(),
    }


def write(model: object, target: Path, rank: int) -> int:
    """A LoRA with random weights for the usual layers; returns how many it has."""
    import torch
    from safetensors.torch import save_file

    from atelier.adapters.targets import Target, targets
    from atelier.checkpoints.checkpoint import Checkpoint

    assert isinstance(model, Checkpoint)
    known: dict[Target | tuple[str, str], tuple[str, Target]] = {}
    for name, (layer, *_) in targets(model).items():
        trained = any(mark in f"{layer.module}." for mark in TARGETS) and len(layer.shapes["weight"]) > 1
        if trained and name.startswith(("lora_unet_", "lora_te_")):
            known.setdefault((layer.part, layer.module), (name, layer))
    generator, tensors = torch.Generator().manual_seed(0), dict[str, torch.Tensor]()
    for name, layer in known.values():
        out, *into = layer.shapes["weight"]
        down, up = (torch.randn(shape, generator=generator).half() for shape in ((rank, *into), (out, rank)))
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": 1e-3 * up}
        tensors[f"{name}.alpha"] = torch.tensor(float(rank))
    save_file(tensors, target)
    return len(known)


if __name__ == "__main__":
    main()
