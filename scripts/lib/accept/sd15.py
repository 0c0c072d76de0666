"""From an image and inside a mask at the size of Stable Diffusion 1.5, against diffusers: the same weights and noise.

    scripts/accept sd15 [--models FOLDER] [--side N] [--steps N] [--tiny] [--json]

diffusers writes a model of random weights into FOLDER (about 9 GB, kept for the next time; left out, it is made in a
temporary folder), with the plain U-Net and with the one of 9 channels that inpainting models have. Atelier generates
from an image ("image"), inside a mask with the plain model ("mask") and with the inpainting one ("mask_9"), without
decoding; diffusers' networks and its DDIM scheduler do the same steps, and the latents are compared. `--side` pixels
(128) are enough, since the size of the weights is what counts. Needs the test extra and about 8 GB of memory. `--tiny`
shrinks the model, to see that the script runs.

Exit code 0: the relative error of every latent is at most 1e-3; 1: it is not.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))

import needs
from atelier.diffusion.first_noise import Seed, first_noises
from atelier.models.clip import TextSpec
from atelier.models.unet import UNetSpec
from atelier.models.vae import VaeSpec
from atelier.pipeline.lent import Lent
from atelier.pipeline.plan import plan
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.values import LATENTS, STATES, Values
from atelier.request.model import Provenance
from atelier.request.table import request_of
from atelier.runtime.device import pick
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache
from atelier.weights.tokenizer import standard
from reference import randomise, text_of, unet_of, vae_of, without_values

BOUND, SEED, SCALE, STRENGTH, LATENT_SCALE = 1e-3, 7, 3.0, 0.6, 0.18215
LEAST_CHANGE = 0.1
"""Relative: if the network changed the image by less, equal latents would say nothing."""
CASES: Mapping[str, tuple[str, bool]] = {"image": ("four", False), "mask": ("four", True), "mask_9": ("nine", True)}
"""By name: the model, and whether there is a mask."""
# Atelier's DDIM ends without noise, as theirs does by `set_alpha_to_one`.
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "num_train_timesteps": 1000,
}


@dataclass(frozen=True, slots=True)
class Sizes:
    text: TextSpec
    unet: UNetSpec
    vae: VaeSpec


TRUE = Sizes(TextSpec(), UNetSpec(), VaeSpec())
TINY = Sizes(
    TextSpec(width=32, layers=2, heads=4, mlp=64),
    UNetSpec(widths=(32, 64), depth=(1, 1), heads=(4, 4), context=32, groups=8),
    VaeSpec(widths=(32, 64), blocks=1, groups=8),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    needs.modules("diffusers", "transformers")
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        folder = options.models or Path(scratch) / "models"
        written(folder, TINY if options.tiny else TRUE)
        drawn(Path(scratch), options.side)
        found: dict[str, float] = {}
        for name in CASES:
            found[name] = compared(name, folder, Path(scratch), options.steps)
            if not options.json:
                print(f"{name}: relative error of the latents {found[name]:.2e}", flush=True)
    if options.json:
        print(json.dumps(found))
    return 0 if max(found.values()) <= BOUND else 1


def written(folder: Path, sizes: Sizes) -> None:
    """Both models, unless they are there. What they share is a link."""
    if (folder / "nine" / "model_index.json").exists():
        return
    for name, channels in (("four", 4), ("nine", 9)):
        own = folder / name
        spec = replace(sizes.unet, in_channels=channels)
        saved(without_values(lambda spec=spec: unet_of(spec)), own / "unet", seed=channels)
        (own / "scheduler").mkdir()
        (own / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER), "utf-8")
    saved(vae_of(sizes.vae), folder / "four" / "vae", seed=1)
    saved(text_of(sizes.text), folder / "four" / "text_encoder", seed=2)
    standard().save(folder / "four" / "tokenizer")
    for part in ("vae", "text_encoder", "tokenizer"):
        (folder / "nine" / part).symlink_to((folder / "four" / part).resolve())
    for name in ("four", "nine"):  # last, as the sign that all is there
        index = {"_class_name": "StableDiffusionPipeline"}
        (folder / name / "model_index.json").write_text(json.dumps(index), "utf-8")


def saved(net: Any, folder: Path, *, seed: int) -> None:
    randomise(net, seed)
    net.save_pretrained(folder)
    del net
    gc.collect()


def drawn(folder: Path, side: int) -> None:
    """Smooth colours, and a mask of the right half and a bit, along positions of the latent."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    pixels = np.stack([rows, columns, (rows - columns) ** 2], -1)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / "image.png")
    mask = Image.new("L", (side, side))
    mask.paste(255, (side * 3 // 8, side // 4, side, side))
    mask.save(folder / "mask.png")


@dataclass(frozen=True, slots=True)
class Told:
    """What the text encoder says of the negative prompt and of the prompt, (1, 77, C) each, and how many of the
    schedule's steps are taken."""

    negative: Tensor
    positive: Tensor
    run: int


def compared(name: str, folder: Path, images: Path, steps: int) -> float:
    """The relative error of a case. Raises RuntimeError where the network changed nothing."""
    model, is_masked = CASES[name]
    latents, told = ours(folder, model, images, steps, is_masked=is_masked)
    gc.collect()
    wanted, known = Theirs(folder / model, images, steps, is_masked=is_masked).latents(told)
    gc.collect()
    if error(known, wanted) < LEAST_CHANGE:
        raise RuntimeError(f"{name}: the image hardly changed, so nothing is compared")
    return error(latents, wanted)


def error(made: Tensor, wanted: Tensor) -> float:
    return float((made - wanted).norm() / wanted.norm())


def ours(folder: Path, model: str, images: Path, steps: int, *, is_masked: bool) -> tuple[Tensor, Told]:
    """Atelier's latents: its stages up to the one that decodes."""
    engine = Engine(pick("cpu", "fp32"), Library((folder,)), HashCache(), version="1", budget=0)
    fields = {"model": model, "prompt": "a red cat", "negative_prompt": "a dog", "seed": SEED, "rng": "cpu"}
    fields |= {"sampler": "DDIM", "scheduler": "Leading", "steps": steps, "cfg_scale": SCALE}
    fields |= {"image": str(images / "image.png"), "denoising_strength": STRENGTH}
    fields |= {"mask": str(images / "mask.png"), "mask_blur": 0.0} if is_masked else {}
    with Image.open(images / "image.png") as image:
        fields |= dict(zip(("width", "height"), image.size, strict=True))
    resolved = engine.resolve(request_of(fields))
    stages = plan(resolved, resolved.sampling, Provenance("1", "fp32", "cpu", ""), max_batch=1)
    stages = [stage for stage in stages if not isinstance(stage, Decode)]
    values, run = Values(), 0
    with Lent(engine.resources, stages) as lent:
        for stage in stages:
            run = sum(1 for _ in stage.perform(lent, values))
    (negative,), (positive,) = (group.values() for group in values.read(STATES).values())
    return values.read(LATENTS)[0][None], Told(negative.tokens[None], positive.tokens[None], run)


class Theirs:
    """diffusers' networks and scheduler of a folder, on the image and the mask."""

    def __init__(self, folder: Path, images: Path, steps: int, *, is_masked: bool) -> None:
        import diffusers

        self.unet: Any = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
        self.vae: Any = diffusers.AutoencoderKL.from_pretrained(folder / "vae")
        self.scheduler: Any = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
        self.scheduler.set_timesteps(steps)
        self.pixels = torch.from_numpy(np.asarray(Image.open(images / "image.png"), np.float32) / 127.5 - 1)
        self.pixels = self.pixels.permute(2, 0, 1)[None]
        self.mask = torch.from_numpy(np.asarray(Image.open(images / "mask.png"), np.float32) / 255)[None, None]
        self.is_masked = is_masked

    def latents(self, told: Told) -> tuple[Tensor, Tensor]:
        """(latents after the last step, those of the image). Inside a mask what is kept is put back after each step,
        with the noise of the next level."""
        known = self.encoded(self.pixels)
        cell = self.pixels.shape[-1] // known.shape[-1]
        where = self.mask[..., ::cell, ::cell] if self.is_masked else torch.ones(1, 1, *known.shape[2:])
        beside = self.beside(where)
        noise, _ = first_noises([Seed(SEED, 0, 0.0, None, 0)], known.shape[1:], "cpu")
        timesteps = self.scheduler.timesteps[-told.run :]
        x = self.scheduler.add_noise(known, noise, timesteps[:1])
        for t, later in zip(timesteps, [*timesteps[1:], None], strict=True):
            x = self.scheduler.step(self.guided(x, t, told, beside), t, x).prev_sample
            kept = known if later is None else self.scheduler.add_noise(known, noise, later[None])
            x = where * x + (1 - where) * kept
        return x, known

    def encoded(self, pixels: Tensor) -> Tensor:
        return self.vae.encode(pixels).latent_dist.mode() * LATENT_SCALE

    def beside(self, where: Tensor) -> Tensor:
        """What a model of 9 channels sees: the mask, and the latent of the image with grey under it."""
        if self.unet.config.in_channels == where.shape[1] + 3:
            return where[:, :0]
        return torch.cat([where, self.encoded(self.pixels * (self.mask < 0.5))], 1)

    def guided(self, x: Tensor, t: Tensor, told: Told, beside: Tensor) -> Tensor:
        seen = torch.cat([torch.cat([x, beside], 1)] * 2)
        without, with_text = self.unet(seen, t, torch.cat([told.negative, told.positive])).sample.chunk(2)
        return without + SCALE * (with_text - without)


if __name__ == "__main__":
    sys.exit(main())
