"""Stable Diffusion XL from a 6.9 GB fp16 file of random weights: seconds to load, and peak memory of one image, ours
against diffusers' default.

    python benchmarks/sdxl.py [--size N] [--steps N] [--dtype fp32|bf16] [--most GB] [--keep FOLDER] [--runs N]

Each side runs in a process of its own, one after the other: ours loads the whole model, ours generates in a second
process, as the command line does, and diffusers does both. The file is read before each, so it is in the page cache.
Of `--runs` in turn the best of each side counts: a virtual machine's host takes up to ten times as long for the first
use of memory that it has to find for it, and no side can do anything about that. `--dtype` is our
precision, bf16 where nothing is said; diffusers' default is fp32. The bounds are 0.5 of diffusers' in both. A process
that needs more than `--most` gigabytes beside the file, or leaves the machine too little, ends itself, and counts as
having needed so much. `processor_seconds` are those of all threads, which other work on the machine changes little.
`--keep` keeps the file in a folder for the next time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

import needs  # isort: split

from atelier.runtime.device import free_memory
from atelier.runtime.threads import prepare_torch
from harness import child, peak_memory, report

BOUND = 0.5
PROMPT = "a red apple on a blue background"
WATCHED = 0.05
"""Seconds between two looks at the memory of a process."""
SPARED = 1_500_000_000
"""Bytes of the machine's memory that are left to others."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--most", type=float, default=18.0, help="gigabytes")
    parser.add_argument("--load-only", action="store_true", help="generate nothing")
    parser.add_argument("--runs", type=int, default=1, help="of each side, of which the best counts")
    parser.add_argument("--keep", help="folder for the fake file")
    parser.add_argument("--side", choices=("load", "image", "reference"), help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    if options.side is not None:
        print(json.dumps(watched(SIDES[options.side], options)), flush=True)
        os._exit(0)  # whatever a side holds goes at once
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as place:
        made = child(str(Path(__file__).with_name("fake_sdxl.py")), place)
        common = ["--size", str(options.size), "--steps", str(options.steps), "--dtype", options.dtype]
        common += ["--most", str(options.most), "--file", made["file"], "--settings", made["settings"]]
        common += ["--load-only"] if options.load_only else []
        sides = ["load", "reference"] if options.load_only else ["load", "image", "reference"]
        runs = [{side: run(side, made["file"], common) for side in sides} for _ in range(options.runs)]
    found = {side: best([each[side] for each in runs]) for side in sides}
    report("sdxl", "cpu", rows(found), ("torch", "diffusers"), size=options.size, steps=options.steps, sides=found)


def run(side: str, file: str, options: list[str]) -> dict[str, Any]:
    """One run of one side, with the file in the page cache."""
    with Path(file).open("rb") as source:
        while source.read(2**24):
            pass
    return child(__file__, "--side", side, *options, environment=environment(side))


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The first run, with the least of all runs in each time and in each amount of memory."""
    least = {key: min(each[key] for each in runs) for key in runs[0] if key.endswith(("seconds", "bytes"))}
    return runs[0] | least | {"every_load": [each.get("load_seconds") for each in runs]}


def environment(side: str) -> dict[str, str]:
    """What our programs set before torch is loaded; diffusers sets nothing."""
    prepared: dict[str, str] = {}
    if side != "reference":
        prepare_torch(prepared)
    return prepared


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What was asked for: load times, peaks after loading, and those of an image where one was made."""
    mine, theirs = found["load"], found["reference"]
    keys = ("load_seconds", "load_processor_seconds", "loaded_peak_bytes")
    told = [compared(key, mine, theirs) for key in keys if key in mine]
    return [*told, compared("peak_bytes", found["image"], theirs)] if "image" in found else told


def compared(key: str, mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """A side that was ended has needed at least what it had by then, so the ratio is at most that."""
    until_then = "peak_bytes" if key.endswith("bytes") else key.removeprefix("load_")
    other = theirs.get(key, theirs.get(until_then, 0))
    ratio = mine[key] / other
    return {
        "what": key,
        "ours": mine[key],
        "reference": other,
        "ratio": round(ratio, 3),
        "ended": theirs["ended"],
        "bound": BOUND,
        "within": ratio <= BOUND,
    }


def watched(side: Callable[[argparse.Namespace, dict[str, Any]], None], options: argparse.Namespace) -> dict[str, Any]:
    """What a side says of itself. It is ended where it needs more memory than it may."""
    found: dict[str, Any] = {"ended": False, "threads": len(os.sched_getaffinity(0))}
    begun = time.perf_counter()

    def finished() -> None:
        processor = time.process_time()
        found.update(seconds=time.perf_counter() - begun, processor_seconds=processor, peak_bytes=peak_memory())

    def watch() -> None:
        cpu = torch.device("cpu")
        while own_memory() < options.most * 1e9 and (free_memory(cpu) or SPARED) >= SPARED:
            time.sleep(WATCHED)
        found["ended"] = True
        finished()
        print(json.dumps(found), flush=True)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    side(options, found)
    finished()
    return found


def loaded(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """All networks at once, as diffusers has them."""
    from contextlib import ExitStack

    from atelier.pipeline.resources import AUTOENCODER, DENOISER, TEXT
    from atelier.runtime.device import pick
    from atelier.runtime.resources import LocalResources
    from atelier.weights.hashes import HashCache

    class Unhashed(HashCache):
        """Tells files by their names: hashing 6.9 GB is no part of loading them."""

        def sha256(self, file: Path) -> str:
            return hashlib.sha256(file.name.encode()).hexdigest()

    device, path = pick("cpu", options.dtype), Path(options.file)
    resources = LocalResources(device, budget=0, hashes=Unhashed())
    begun, worked = time.perf_counter(), time.process_time()
    model = resources.open(path)
    reference = resources.refer(path.stem, model)
    with ExitStack() as held:
        for part in (TEXT, DENOISER, AUTOENCODER):
            held.enter_context(resources.borrow(reference, part))
        found.update(
            load_seconds=time.perf_counter() - begun,
            load_processor_seconds=time.process_time() - worked,
            loaded_peak_bytes=peak_memory(),
        )


def image(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """One image as the command line makes it."""
    from atelier.compose import engine as make_engine
    from atelier.request.table import request_of

    engine = make_engine(keep=False, device="cpu", dtype=options.dtype)
    fields = {"width": options.size, "height": options.size, "steps": options.steps, "sampler": "Euler", "seed": 0}
    begun = time.perf_counter()
    for event in engine.events(request_of({"prompt": PROMPT, "model": options.file, **fields})):
        found.setdefault("events", []).append([type(event).__name__, round(time.perf_counter() - begun, 1)])
        found["peak_bytes"] = peak_memory()
    found["computed_on"] = str(engine.device)


def reference(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """diffusers' default precision, which is fp32."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    begun, worked = time.perf_counter(), time.process_time()
    pipe = StableDiffusionXLPipeline.from_single_file(options.file, config=options.settings)
    found.update(
        load_seconds=time.perf_counter() - begun,
        load_processor_seconds=time.process_time() - worked,
        loaded_peak_bytes=peak_memory(),
    )
    found["computed_on"] = str(pipe.unet.dtype)
    if options.load_only:
        return
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe(PROMPT, num_inference_steps=options.steps, width=options.size, height=options.size)


def own_memory() -> int:
    """Bytes that this process holds and that are not in a file, now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:")))


SIDES = {"load": loaded, "image": image, "reference": reference}

if __name__ == "__main__":
    main()
