"""One step of training a LoRA, against the same step written with diffusers and PEFT.

    python benchmarks/teach_step.py [--true-size FOLDER] [--rounds N] [--only ours|reference]

Both sides: the denoiser's weights as they are, a LoRA of rank 16 beside its attention layers, the same latents and text
states, noise, loss, backward, gradient clipping, AdamW; in bf16 where training uses it. Ours is the task that `atelier
train lora` runs; the other side is what diffusers' scripts do. On the embedded model ours must take at most 0.9 of the
time. --true-size: the sizes of Stable Diffusion 1.5 with random weights (a file in FOLDER, made if need be), 512
pixels, one image, blocks computed again in the backward pass; there the memory of each side is measured too, in a
process of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import needs  # isort: split

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from atelier.runtime.device import choose_device, training_dtype
from atelier.runtime.threads import use_granted_cores
from atelier.train.loop import Placement
from atelier.train.registry import read, recipes
from atelier.train.tasks.teaching import TeachingTask, caption_of
from atelier.train.teaching.base import conditioning_of
from harness import Call, child, interleaved, peak_memory, report, row
from reference import foreign, unet_of

BOUND, MOST_BYTES = 0.9, 12_000_000_000
LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--true-size", type=Path, default=None, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=0, help="15; 2 at true size")
    parser.add_argument("--only", choices=("ours", "reference"), default=None, help="one side alone, and its memory")
    options = parser.parse_args()
    needs.modules("diffusers", "peft")
    use_granted_cores()
    with tempfile.TemporaryDirectory() as folder:
        task = our_task(Path(folder), options.true_size)
        sides: dict[str, Call] = {}
        if options.only != "reference":
            sides["ours"] = Ours(task).step
        if options.only != "ours":
            sides["reference"] = Reference(task).step
        rounds = options.rounds or (2 if options.true_size else 15)
        if options.only:
            timing = interleaved(sides, rounds)
            print(f'{{"bytes": {peak_memory()}, "seconds": {timing.median(options.only)}}}')
            return
        timing = interleaved(sides, rounds, warmup=2 if options.true_size is None else 1)
    compared = [row("step of a LoRA", timing, "ours", "reference", None if options.true_size else BOUND)]
    report("teach_step", "cpu", compared, ("torch", "diffusers", "peft"), **memory(options.true_size, task))


def memory(true_size: Path | None, task: TeachingTask) -> dict[str, Any]:
    more: dict[str, Any] = {"dtype": str(task.placement.dtype), "true_size": true_size is not None}
    if true_size is None:
        return more
    found = {
        side: child(sys.argv[0], "--true-size", str(true_size), "--rounds", "1", "--only", side)["bytes"]
        for side in ("ours", "reference")
    }
    return {**more, "peak_bytes": found, "most_bytes": MOST_BYTES, "within_memory": found["ours"] <= MOST_BYTES}


def our_task(folder: Path, true_size: Path | None) -> TeachingTask:
    """The task of the recipe, with one image for each place in the batch."""
    base, size, batch = "embedded", 128, 4
    if true_size is not None:
        base, size, batch = child(str(Path(__file__).with_name("fake.py")), str(true_size))["file"], 512, 1
    draw = np.random.default_rng(0)
    for number in range(batch):
        image = Image.fromarray(draw.integers(0, 256, (size, size, 3), dtype=np.uint8))
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"thing {number}")
    placement = Placement(choose_device("cpu"), training_dtype(torch.device("cpu"), "bf16" if true_size else "auto"))
    changes = {
        "data.source": str(folder),
        "base": base,
        "run.batch": batch,
        "run.checkpointing": true_size is not None,
        "base_dtype": "bf16" if true_size is not None else "fp32",
    }
    spec = recipes()["lora"]
    return spec.build(read("lora", spec, changes), placement, folder / "run")


class Ours:
    def __init__(self, task: TeachingTask) -> None:
        self.task, self.count = task, 0

    def step(self) -> None:
        self.task.update(self.count, self.task.maker(self.count))["loss"].item()
        self.count += 1


class Reference:
    """The step as diffusers' training scripts write it."""

    def __init__(self, task: TeachingTask) -> None:
        from diffusers import DDPMScheduler
        from peft import LoraConfig

        self.task, recipe = task, task.recipe
        spec = task.base.checkpoint.spec(task.base.denoiser)
        self.dtype = next(task.base.net.parameters()).dtype
        self.unet = unet_of(spec).to(self.dtype)
        self.unet.load_state_dict(foreign(task.base.net, spec))
        self.unet.requires_grad_(requires_grad=False)
        if recipe.run.checkpointing:
            self.unet.enable_gradient_checkpointing()
        rank, alpha = recipe.adapter.rank, recipe.adapter.alpha
        self.unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=LAYERS))
        self.learning = [p for p in self.unet.parameters() if p.requires_grad]
        for parameter in self.learning:
            parameter.data = parameter.data.float()
        optim = recipe.optim
        self.optimizer = torch.optim.AdamW(
            self.learning, lr=optim.rate, betas=optim.betas, weight_decay=optim.weight_decay, eps=optim.eps
        )
        self.velocity = task.base.parameterization.name == "velocity"
        self.scheduler = DDPMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction" if self.velocity else "epsilon",
        )
        self.unet.train()
        self.clean, self.states = seen(task)

    def step(self) -> None:
        noise = torch.randn_like(self.clean)
        t = torch.randint(0, 1000, (len(self.clean),))
        x = self.scheduler.add_noise(self.clean, noise, t)
        with self.task.placement.autocast():
            output = self.unet(x.to(self.dtype), t, self.states.to(self.dtype), return_dict=False)[0]
        target = self.scheduler.get_velocity(self.clean, noise, t) if self.velocity else noise
        loss = F.mse_loss(output.float(), target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.learning, self.task.recipe.optim.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        loss.item()


@torch.no_grad()
def seen(task: TeachingTask) -> tuple[Tensor, Tensor]:
    """The latents and text states of the images."""
    batch = task.maker(0)
    clean, _ = task._posterior(batch)  # noqa: SLF001 - the same latents for both
    return clean, conditioning_of(task.base, task.base.encoder, [caption_of(own) for own in batch]).tokens


if __name__ == "__main__":
    main()
