"""What two controls, an image prompt and a LoRA cost in one request with a second pass, against the sum of what each
costs alone.

    python benchmarks/together.py [--steps N] [--rounds N] [--processor] [--device cpu|cuda]

On the embedded model, with random networks: 128x128, then 192x192. A part costs what the request with it alone takes
beyond the plain one. The ratio is that of the whole to the plain request and all parts; the bound is 1.1. --processor:
seconds of the processor in place of the clock's, for a machine that is busy with other work.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import needs  # isort: split

import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from torch import Tensor

from atelier.adapters.control_lora import ControlLora, LowRank, shapes_of, write_control_lora
from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.opening import open_checkpoint
from atelier.families.parts import UNET, VISION
from atelier.models.controlnet import ControlNet, ControlSpec
from atelier.request.model import Request
from atelier.request.table import request_of
from atelier.runtime.device import pick
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.runtime.threads import use_granted_cores
from atelier.weights.hashes import HashCache
from harness import Timing, interleaved, report, waiter

BOUND = 1.1
BUDGET = 2**31
TOKENS, RANK = 4, 16
OWN = ("hint.", "outs.", "out_middle.")
WIDTHS = (128, 256, 256, 256, 128, 128, 256)
"""Of the embedded model's attentions to the text, as IP-Adapters count them: down, up, middle."""
PARTS = ("canny", "depth", "reference", "lora")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processor", action="store_true")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    needs.modules("safetensors")
    use_granted_cores()
    clock = time.process_time if options.processor else time.perf_counter
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        device = pick(options.device, "fp32")
        engine = Engine(device, Library((folder,)), HashCache(), version="0", budget=BUDGET)
        asked = {kind: request(folder, options.steps, kind) for kind in ("plain", *PARTS, "whole")}
        calls = {kind: partial(engine.generate, own) for kind, own in asked.items()}
        timing = interleaved(calls, options.rounds, wait=waiter(options.device), clock=clock)
    told = {"steps": options.steps, "clock": "processor" if options.processor else "wall", "seconds": medians(timing)}
    report("together", options.device, [compared(timing)], ("torch",), **told)


def medians(timing: Timing) -> dict[str, float]:
    return {kind: round(timing.median(kind), 4) for kind in timing.rounds}


def compared(timing: Timing) -> dict[str, object]:
    """The whole against the sum, round by round; the result is the median."""
    rounds = zip(*(timing.rounds[kind] for kind in ("whole", "plain", *PARTS)), strict=True)
    sums = [(whole, plain + sum(part - plain for part in parts)) for whole, plain, *parts in rounds]
    ratio = statistics.median(whole / added for whole, added in sums)
    return {
        "what": "all in one request",
        "ours_seconds": round(statistics.median(whole for whole, _ in sums), 4),
        "reference_seconds": round(statistics.median(added for _, added in sums), 4),
        "ratio": round(ratio, 3),
        "bound": BOUND,
        "within": ratio <= BOUND,
        "rounds": len(sums),
    }


def request(folder: Path, steps: int, kind: str) -> Request:
    """With one part, with all of them (whole), or with none (plain)."""
    shape, has = folder / "shape.png", set(PARTS) if kind == "whole" else {kind}
    controls = {"canny": f"canny:{shape}:0.6", "depth": f"depth:{shape}:0.4 annotator=none"}
    fields: dict[str, object] = {
        "prompt": "a red apple <lora:oil:1>" if "lora" in has else "a red apple",
        "negative_prompt": "a blue banana",
        "seed": 7,
        "steps": steps,
        "sampler": "Euler",
        "hires_upscale": 1.5,
        "hires_steps": steps,
        "denoising_strength": 0.6,
        "controls": tuple(text for name, text in controls.items() if name in has),
        "references": (f"{shape}:0.5",) if "reference" in has else (),
    }
    return request_of(fields)


def write(folder: Path) -> None:
    """The networks, and the image that they read."""
    for name in ("ControlNet", "ipadapter", "Lora"):
        (folder / name).mkdir()
    model = open_checkpoint(embedded_folder())
    spec = ControlSpec(model.spec(UNET), (16, 16, 32, 64))
    for seed, name in enumerate(("canny", "depth")):
        _control(folder / "ControlNet" / f"a_{name}.safetensors", spec, seed)
    features = model.spec(VISION).projection
    assert features is not None
    _image_prompt(folder / "ipadapter" / "prompt.safetensors", spec, features)
    _lora(folder / "Lora" / "oil.safetensors", spec)
    image = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(image).ellipse((30, 20, 100, 110), "red")
    image.save(folder / "shape.png")


def _drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * shape[-1] ** -0.5


def _control(path: Path, spec: ControlSpec, seed: int) -> None:
    torch.manual_seed(seed)
    net = ControlNet(spec)
    shapes = shapes_of(spec)
    full = {name: net.get_parameter(name).detach() * 0.5 for name in shapes if name.startswith(OWN)}
    low = {
        name: LowRank(_drawn(seed, shape[0], RANK), _drawn(seed, RANK, shape[1]))
        for name, shape in shapes.items()
        if name not in full and len(shape) == 2
    }
    write_control_lora(path, ControlLora(low, full), spec)


def _image_prompt(path: Path, spec: ControlSpec, features: int) -> None:
    context = spec.unet.context
    tensors = {
        "image_proj.proj.weight": _drawn(1, TOKENS * context, features),
        "image_proj.proj.bias": torch.zeros(TOKENS * context),
        "image_proj.norm.weight": torch.ones(context),
        "image_proj.norm.bias": torch.zeros(context),
    }
    for number, width in enumerate(WIDTHS):
        tensors |= {f"ip_adapter.{2 * number + 1}.to_{kind}_ip.weight": _drawn(2, width, context) for kind in "kv"}
    save_file(tensors, path)


def _lora(path: Path, spec: ControlSpec) -> None:
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    width = spec.unet.widths[-1]
    tensors = {"lora_down.weight": _drawn(3, RANK, width), "lora_up.weight": _drawn(4, width, RANK) * 8}
    save_file({f"{name}.{slot}": tensor for slot, tensor in tensors.items()}, path)


if __name__ == "__main__":
    main()
