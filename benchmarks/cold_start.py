"""Process start to PNG with the embedded model, 20 steps; and `atelier --help`, which must not import torch.

    python benchmarks/cold_start.py [--device cpu|cuda] [--rounds N]

The other side of the image is diffusers' StableDiffusionPipeline on the same folder, likewise from process start to
PNG. Bounds: 6 s for the image and 0.4 s for the help, on two CPU cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import needs
from harness import interleaved, report, row

PROMPT = "a red apple on a blue background"
STEPS = 20
PICTURE_SECONDS, HELP_SECONDS = 6.0, 0.4
REFERENCE = """
import sys
import torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1], torch_dtype=torch.float32, safety_checker=None)
pipe = pipe.to(sys.argv[2])
pipe.set_progress_bar_config(disable=True)
pipe(sys.argv[3], num_inference_steps=int(sys.argv[4]), guidance_scale=3.0).images[0].save(sys.argv[5])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    with tempfile.TemporaryDirectory() as folder:
        rows = [picture(Path(folder), options.device, options.rounds), help_(options.rounds)]
    report("cold_start", options.device, rows, ("torch", "diffusers"), steps=STEPS)


def picture(folder: Path, device: str, rounds: int) -> dict[str, Any]:
    mine, theirs = folder / "ours.png", folder / "reference.png"
    ours = [sys.executable, "-m", "atelier", "generate", PROMPT, "--steps", str(STEPS), "--seed", "0", "-o", str(mine)]
    reference = [sys.executable, "-c", REFERENCE, str(embedded()), device, PROMPT, str(STEPS), str(theirs)]
    calls = {
        "ours": lambda: generated(ours, mine, {"ATELIER_DEVICE": device}),
        "reference": lambda: generated(reference, theirs, {}),
    }
    timing = interleaved(calls, rounds)
    seconds = timing.median("ours")
    compared = row("process start to PNG", timing, "ours", "reference", None)
    return {**compared, "bound_seconds": PICTURE_SECONDS, "within": seconds <= PICTURE_SECONDS}


def generated(command: list[str], path: Path, environment: Mapping[str, str]) -> None:
    """Runs a command that must leave an image."""
    path.unlink(missing_ok=True)
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    if not path.stat().st_size:
        raise RuntimeError(f"{path} is empty")


def embedded() -> Path:
    from atelier.checkpoints.embedded import embedded_folder

    return embedded_folder()


def help_(rounds: int) -> dict[str, Any]:
    seconds: list[float] = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "atelier", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    median = statistics.median(seconds[1:])
    torch_imported = imports_torch()
    return {
        "what": "atelier --help",
        "ours_seconds": round(median, 3),
        "imports_torch": torch_imported,
        "bound_seconds": HELP_SECONDS,
        "within": median <= HELP_SECONDS and not torch_imported,
        "rounds": rounds,
    }


def imports_torch() -> bool:
    """Whether torch is among the modules that `atelier --help` imports, as the interpreter lists them."""
    command = [sys.executable, "-X", "importtime", "-m", "atelier", "--help"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    modules = {line.rpartition("|")[2].strip() for line in listed.splitlines() if line.startswith("import time:")}
    if "atelier" not in modules:
        raise RuntimeError("the interpreter did not list its imports")
    return "torch" in modules


if __name__ == "__main__":
    main()
