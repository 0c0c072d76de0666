"""Peak memory of one image of 512x512 from a 2 GB fp16 file: ours against diffusers' default on the same file.

    python benchmarks/memory.py [--device cpu|cuda] [--steps N] [--dtype fp32|bf16] [--model FOLDER] [--keep FOLDER]

Each side generates in a process of its own, which prints the most physical memory that it held (on a GPU also the most
device memory). Ours must stay within 0.6 of diffusers' in bf16; `--dtype` forces a precision, otherwise it is the one
that generating chooses on this machine. `--model` takes a diffusers folder instead of the file (its own size of image),
to see that the script runs; `--keep` keeps the fake file there for the next time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import needs
from harness import child, peak_memory, report

BOUND = 0.6
PROMPT = "a red apple on a blue background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--dtype", choices=("fp32", "bf16"))
    parser.add_argument("--model", help="a diffusers folder to generate with instead")
    parser.add_argument("--keep", help="folder for the fake file")
    parser.add_argument("--side", choices=("ours", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    if options.side is not None:
        measured = ours(options) if options.side == "ours" else reference(options)
        print(json.dumps({**measured, "peak_bytes": peak_memory(), **gpu_peak(options.device)}))
        return
    with checkpoint(options.model, options.keep) as (model, settings):
        common = ["--device", options.device, "--steps", str(options.steps), "--model", model]
        mine = child(__file__, "--side", "ours", *common, *(["--dtype", options.dtype] if options.dtype else []))
        theirs = child(__file__, "--side", "reference", "--settings", settings, *common)
    report("memory", options.device, rows(mine, theirs), ("torch", "diffusers"), steps=options.steps)


def rows(mine: dict[str, Any], theirs: dict[str, Any]) -> list[dict[str, Any]]:
    return [compared(key, mine, theirs) for key in ("peak_bytes", "gpu_peak_bytes") if key in mine]


def compared(key: str, mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    ratio = mine[key] / theirs[key]
    bound = BOUND if "bf16" in mine["computed_on"] else None
    return {
        "what": key,
        "ours": mine[key],
        "ours_computed_on": mine["computed_on"],
        "reference": theirs[key],
        "reference_computed_on": theirs["computed_on"],
        "ratio": round(ratio, 3),
        "bound": bound,
        "within": None if bound is None else ratio <= bound,
    }


@contextmanager
def checkpoint(folder: str | None, keep: str | None) -> Iterator[tuple[str, str]]:
    """What to generate with: the model, and diffusers' settings for it ("" for a folder)."""
    if folder is not None:
        yield folder, ""
        return
    with tempfile.TemporaryDirectory() as place:
        made = child(str(Path(__file__).with_name("fake.py")), keep or place)
        yield made["file"], made["settings"]


def ours(options: argparse.Namespace) -> dict[str, Any]:
    from atelier.compose import engine as make_engine
    from atelier.request.model import Request

    engine = make_engine(keep=False, device=options.device, dtype=options.dtype)
    picture = engine.generate(Request(prompt=PROMPT, model=options.model, steps=options.steps, seed=0))[0]
    return {"size": picture.image.size, "computed_on": str(engine.device)}


def reference(options: argparse.Namespace) -> dict[str, Any]:
    """diffusers' default, which is fp32; said aloud for a folder, which recent transformers would load mixed."""
    import torch
    from diffusers import StableDiffusionPipeline

    if options.settings:
        pipe = StableDiffusionPipeline.from_single_file(
            options.model, config=options.settings, torch_dtype=torch.float32
        )
    else:
        pipe = StableDiffusionPipeline.from_pretrained(options.model, torch_dtype=torch.float32)
    pipe = pipe.to(options.device)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe(PROMPT, num_inference_steps=options.steps).images[0]
    return {"size": picture.size, "computed_on": str(pipe.unet.dtype)}


def gpu_peak(device: str) -> dict[str, int]:
    if not device.startswith("cuda"):
        return {}
    import torch

    return {"gpu_peak_bytes": torch.cuda.max_memory_allocated()}


if __name__ == "__main__":
    main()
