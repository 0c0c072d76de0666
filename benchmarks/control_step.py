"""One step of training a ControlNet on the embedded model, against the same step of diffusers' ControlNet script.

    python benchmarks/control_step.py [--rounds N] [--batch N] [--processor]

Both sides: the frozen denoiser, a copy of its encoder that learns whole, the same latents, text states, hints, noise,
loss, backward, gradient clipping, AdamW; in bf16 where training uses it. Ours is the task that `atelier train control`
runs. It must take at most 0.9 of the time. --processor: seconds of the processor in place of the clock's, for a machine
that is busy with other work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

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
from atelier.train.tasks.teaching import TeachingTask
from atelier.train.teaching.control import ControlPupil
from harness import interleaved, report, row
from reference import foreign, unet_of
from teach_step import Ours, seen

BOUND = 0.9
SIDE = 128
WIDTHS = (16, 16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--processor", action="store_true")
    options = parser.parse_args()
    needs.modules("diffusers")
    use_granted_cores()
    clock = time.process_time if options.processor else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        task = our_task(Path(folder), options.batch)
        sides = {"ours": Ours(task).step, "reference": Reference(task).step}
        timing = interleaved(sides, options.rounds, warmup=2, clock=clock)
    told = {"dtype": str(task.placement.dtype), "clock": "processor" if options.processor else "wall"}
    compared = [row("step of a ControlNet", timing, "ours", "reference", BOUND)]
    report("control_step", "cpu", compared, ("torch", "diffusers"), batch=options.batch, **told)


def our_task(folder: Path, batch: int) -> TeachingTask:
    """The task of the recipe, with one image and one hint for each place in the batch."""
    draw = np.random.default_rng(0)
    images, hints = folder / "images", folder / "hints"
    for place in (images, hints):
        place.mkdir()
        for number in range(batch):
            Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(place / f"{number}.png")
    for number in range(batch):
        (images / f"{number}.txt").write_text(f"thing {number}")
    placement = Placement(choose_device("cpu"), training_dtype(torch.device("cpu"), "auto"))
    changes = {
        "data.source": str(images),
        "data.dropout": 0.0,
        "base": "embedded",
        "control.annotator": "",
        "control.hints": str(hints),
        "control.widths": list(WIDTHS),
        "run.batch": batch,
    }
    spec = recipes()["control"]
    return spec.build(read("control", spec, changes), placement, folder / "run")


class Reference:
    """The step as diffusers' train_controlnet.py writes it."""

    def __init__(self, task: TeachingTask) -> None:
        from diffusers import ControlNetModel, DDPMScheduler

        self.task = task
        spec = task.base.checkpoint.spec(task.base.denoiser)
        self.dtype = next(task.base.net.parameters()).dtype
        self.unet = unet_of(spec).to(self.dtype)
        self.unet.load_state_dict(foreign(task.base.net, spec))
        self.unet.requires_grad_(requires_grad=False)
        self.control = ControlNetModel.from_unet(self.unet, conditioning_embedding_out_channels=WIDTHS).float().train()
        optim = task.recipe.optim
        self.optimizer = torch.optim.AdamW(
            self.control.parameters(), lr=optim.rate, betas=optim.betas, weight_decay=optim.weight_decay, eps=optim.eps
        )
        self.velocity = task.base.parameterization.name == "velocity"
        self.scheduler = DDPMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction" if self.velocity else "epsilon",
        )
        self.clean, self.states = seen(task)
        self.hints = hints_of(task)

    def step(self) -> None:
        noise = torch.randn_like(self.clean)
        t = torch.randint(0, 1000, (len(self.clean),))
        x = self.scheduler.add_noise(self.clean, noise, t).to(self.dtype)
        states = self.states.to(self.dtype)
        with self.task.placement.autocast():
            down, middle = self.control(x, t, states, controlnet_cond=self.hints, return_dict=False)
            output = self.unet(
                x,
                t,
                states,
                down_block_additional_residuals=[own.to(self.dtype) for own in down],
                mid_block_additional_residual=middle.to(self.dtype),
                return_dict=False,
            )[0]
        target = self.scheduler.get_velocity(self.clean, noise, t) if self.velocity else noise
        loss = F.mse_loss(output.float(), target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.control.parameters(), self.task.recipe.optim.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss.item()


def hints_of(task: TeachingTask) -> Tensor:
    """(N, 3, H, W) in [0, 1]: what both sides read."""
    pupil = task.pupil
    assert isinstance(pupil, ControlPupil)
    return torch.stack([torch.from_numpy(pupil.hints.of(own).copy()).permute(2, 0, 1) / 255 for own in task.maker(0)])


if __name__ == "__main__":
    main()
