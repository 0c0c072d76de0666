"""One step of training the denoiser at the embedded model's size, against the same step written with diffusers.

    python benchmarks/train_step.py [--device cpu|cuda] [--rounds N] [--batch N] [--tiny]

Both sides: text states from the same frozen tower, caption dropout, noise, velocity target, SNR-weighted loss,
backward, gradient clipping, the recipe's optimizers (ours on both sides), moving average of the weights; in bf16 where
training uses it. Ours is the task that `atelier train denoiser` runs; the other side is UNet2DConditionModel,
DDPMScheduler and EMAModel as diffusers' own training scripts use them. Ours must take at most 0.9 of the time.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import needs  # isort: split

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atelier.models.clip import ClipText, TextSpec
from atelier.models.vae import AutoencoderKL
from atelier.runtime.device import choose_device, training_dtype
from atelier.runtime.threads import use_granted_cores
from atelier.train.ema import Ema
from atelier.train.latents import Latents
from atelier.train.loop import Placement
from atelier.train.optimizers import optimizers
from atelier.train.recipes.clip import CLIP
from atelier.train.recipes.denoiser import DENOISER, DenoiserRecipe
from atelier.train.recipes.vae import VAE
from atelier.train.registry import read
from atelier.train.tasks import vae as vae_task
from atelier.train.tasks.denoiser import DenoiserTask, Frozen
from atelier.weights.tokenizer import standard
from harness import Call, interleaved, report, row, waiter
from reference import unet_of

BOUND = 0.9
TINY = {"model.widths": [32, 64], "model.depth": [0, 1], "model.heads": [2, 4]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, help="the recipe's, if not given")
    parser.add_argument("--tiny", action="store_true", help="shrink everything, to see that the script runs")
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    use_granted_cores()
    changes: dict[str, Any] = dict(TINY) if options.tiny else {}
    if options.batch is not None:
        changes["run.batch"] = options.batch
    recipe = read("denoiser", DENOISER, changes)
    with tempfile.TemporaryDirectory() as folder:
        frozen = untrained(Path(folder))
        task = our_task(recipe, frozen, Path(folder), options.device)
    average = Ema(task.unet, recipe.optim.ema)
    theirs = Reference(recipe, task, frozen.text, options.device)
    batches = Batches(recipe, frozen)

    def ours() -> None:
        step, batch = batches.next("ours")
        {name: float(value) for name, value in task.update(step, batch).items()}
        average.update(task.unet, step)

    calls: dict[str, Call] = {"ours": ours, "reference": lambda: theirs.update(*batches.next("reference"))}
    timing = interleaved(calls, options.rounds, warmup=2, wait=waiter(options.device))
    compared = row("training step", timing, "ours", "reference", BOUND)
    report(
        "train_step",
        options.device,
        [compared],
        ("torch", "diffusers"),
        batch=recipe.run.batch,
        parameters={"ours": count(task.unet), "reference": count(theirs.unet)},
        dtype=str(task.placement.dtype),
        tiny=options.tiny,
    )


def untrained(folder: Path) -> Frozen:
    """The networks that come before the denoiser, in the sizes of their recipes, with CLIP's own vocabulary."""
    standard().save(folder)
    model = read("clip", CLIP).model
    text = ClipText(TextSpec(width=model.width, layers=model.layers, heads=model.heads, mlp=4 * model.width))
    vae = AutoencoderKL(vae_task.spec_of(read("vae", VAE)))
    return Frozen(vae, folder, 1.0, text, folder)


def our_task(recipe: DenoiserRecipe, frozen: Frozen, folder: Path, device: str) -> DenoiserTask:
    chosen = choose_device(device)
    placement = Placement(chosen, training_dtype(chosen, recipe.run.dtype))
    return DenoiserTask(recipe, placement, frozen, folder / "latents")


class Batches:
    """The same made-up batches for both sides: unit normal latents, rows of random tokens."""

    def __init__(self, recipe: DenoiserRecipe, frozen: Frozen) -> None:
        self.count, self.channels = recipe.run.batch, frozen.vae.spec.latent
        self.side = recipe.data.size // frozen.vae.spec.factor
        self.steps = {"ours": 0, "reference": 0}

    def next(self, contestant: str) -> tuple[int, Latents]:
        step = self.steps[contestant]
        self.steps[contestant] += 1
        generator = torch.Generator().manual_seed(step)
        latents = torch.randn(self.count, self.channels, self.side, self.side, generator=generator)
        tokens = torch.randint(0, 1000, (self.count, 77), generator=generator)
        return step, Latents(latents.half().numpy(), tokens.numpy())


class Reference:
    """The step as diffusers' training scripts write it."""

    def __init__(self, recipe: DenoiserRecipe, task: DenoiserTask, text: ClipText, device: str) -> None:
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        self.recipe, self.device = recipe, device
        self.unet = unet_of(task.unet.spec).to(device).train()
        self.text = text
        self.empty = torch.tensor(standard().ids(""), device=device)
        self.autocast = task.placement.autocast
        self.scheduler = DDPMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction" if recipe.loss.prediction == "velocity" else "epsilon",
        )
        self.optimizers = optimizers("unet", self.unet, recipe.optim, outer=("conv_in.", "conv_out."))
        self.average = EMAModel(self.unet.parameters(), decay=recipe.optim.ema)

    def update(self, _step: int, batch: Latents) -> None:
        clean = torch.from_numpy(batch.latents).to(self.device).float()
        tokens = torch.from_numpy(batch.tokens).to(self.device)
        kept = torch.rand(len(clean), 1, device=self.device) >= self.recipe.loss.drop
        tokens = torch.where(kept, tokens, self.empty)
        with torch.no_grad():
            states = self.text(tokens).last
        noise = torch.randn_like(clean)
        t = torch.randint(0, self.scheduler.config["num_train_timesteps"], (len(clean),), device=self.device)
        x = self.scheduler.add_noise(clean, noise, t)
        with self.autocast():
            output = self.unet(x, t, states, return_dict=False)[0]
        loss = (self.weights(t) * self.errors(output, clean, noise, t)).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), self.recipe.optim.clip)
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.unet.zero_grad()
        self.average.step(self.unet.parameters())
        loss.item()

    def errors(self, output: Tensor, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        velocity = self.recipe.loss.prediction == "velocity"
        target = self.scheduler.get_velocity(clean, noise, t) if velocity else noise
        return F.mse_loss(output.float(), target, reduction="none").mean(dim=(1, 2, 3))

    def weights(self, t: Tensor) -> Tensor:
        from diffusers.training_utils import compute_snr

        snr = compute_snr(self.scheduler, t)
        bound = snr.clamp(self.recipe.loss.snr_floor, self.recipe.loss.snr_gamma)
        return bound / (snr + 1 if self.recipe.loss.prediction == "velocity" else snr)


def count(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


if __name__ == "__main__":
    main()
