"""From an image and inside a mask against diffusers: the same tiny random model, the same noise, latents compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny
from atelier.diffusion.first_noise import Seed, first_noises
from atelier.pipeline.lent import Lent
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.values import KNOWN, LATENTS, STATES, Values
from atelier.runtime.engine import Engine
from pipeline_support import PLENTY, engine_on, planned

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")


SIDE, SEED, STEPS, SCALE, RUN = 64, 7, 10, 3.0, 7
"""RUN: of 10 steps at a strength of 0.6, as A1111 counts: 6 and one more."""
IMAGE_SCALE = 1.7
KINDS = [
    pytest.param("DDIM", "Leading", "DDIMScheduler", {}, id="DDIM"),
    pytest.param("Euler", "Uniform", "EulerDiscreteScheduler", {"timestep_spacing": "linspace"}, id="Euler"),
]


@pytest.fixture(scope="module")
def engine(tiny_folder: Path) -> Engine:
    return engine_on(tiny_folder, budget=PLENTY)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth colours, so that all of the latent says something."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    pixels = np.stack([rows, columns, (rows - columns) ** 2], -1)
    path = tmp_path_factory.mktemp("images") / "source.png"
    Image.fromarray((pixels * 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The right half and a bit, along a position of the latent."""
    path = tmp_path_factory.mktemp("images") / "mask.png"
    image = Image.new("L", (SIDE, SIDE))
    image.paste(255, (24, 16, SIDE, SIDE))
    image.save(path)
    return path


@dataclass(frozen=True)
class Ours:
    """What our stages left of a request."""

    latents: Tensor
    known: Tensor
    negative: Tensor
    positive: Tensor


def ours(engine: Engine, sampler: str, scheduler: str, **fields: object) -> Ours:
    """Runs the stages of a request up to the one that decodes."""
    wanted = {"sampler": sampler, "scheduler": scheduler, "steps": STEPS, "cfg_scale": SCALE, "seed": SEED}
    stages = [s for s in planned(engine, **{**wanted, "rng": "cpu", **fields}) if not isinstance(s, Decode)]
    values = Values()
    with Lent(engine.resources, stages) as lent, torch.no_grad():
        for stage in stages:
            for _ in stage.perform(lent, values):
                pass
    (negative,), (positive,) = (group.values() for group in values.read(STATES).values())
    known = values.read(KNOWN).latent if "image" in fields else torch.zeros(())
    return Ours(values.read(LATENTS)[0][None], known, negative.tokens[None], positive.tokens[None])


@dataclass(frozen=True)
class Theirs:
    """diffusers' networks of a folder, and a scheduler of theirs."""

    unet: Any
    vae: Any
    scheduler: Any

    @classmethod
    def of(cls, folder: Path, scheduler: str, settings: dict[str, object]) -> Theirs:
        kind = getattr(diffusers, scheduler)
        own = kind.from_pretrained(folder, subfolder="scheduler", **settings)
        own.set_timesteps(STEPS)
        return cls(
            diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet"),
            diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae"),
            own,
        )

    def encoded(self, pixels: Tensor) -> Tensor:
        """(1, 3, H, W) in [-1, 1] -> the most likely latent, not scaled."""
        return self.vae.encode(pixels).latent_dist.mode()

    @property
    def scale(self) -> float:
        return self.vae.config.scaling_factor

    def last(self, run: int) -> Tensor:
        """The last timesteps; the scheduler counts from there, as their pipelines have it do."""
        self.scheduler.set_timesteps(STEPS)
        begin = len(self.scheduler.timesteps) - run
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(begin)
        return self.scheduler.timesteps[begin:]

    def guided(self, x: Tensor, t: Tensor, told: Ours, beside: Tensor | None = None) -> Tensor:
        """beside: appended to what the network sees, the same for both branches."""
        seen = self.scheduler.scale_model_input(torch.cat([x, x]), t)
        seen = seen if beside is None else torch.cat([seen, torch.cat([beside, beside])], 1)
        uncond, cond = self.unet(seen, t, torch.cat([told.negative, told.positive])).sample.chunk(2)
        return uncond + SCALE * (cond - uncond)

    def edited(self, x: Tensor, t: Tensor, told: Ours, image: Tensor, image_scale: float) -> Tensor:
        """Theirs of InstructPix2Pix: the text and the image, the image alone, neither."""
        seen = self.scheduler.scale_model_input(torch.cat([x] * 3), t)
        seen = torch.cat([seen, torch.cat([image, image, torch.zeros_like(image)])], 1)
        tokens = torch.cat([told.positive, told.negative, told.negative])
        text, alone, neither = self.unet(seen, t, tokens).sample.chunk(3)
        return neither + SCALE * (text - alone) + image_scale * (alone - neither)


def pixels_of(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


def latent_mask(path: Path, cell: int) -> Tensor:
    """Its value at the corner of each position; its edges lie between positions."""
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image, np.float32)[::cell, ::cell] / 255)[None, None]


def noise_of(latent: Tensor) -> Tensor:
    noise, _ = first_noises([Seed(SEED, 0, 0.0, None, 0)], (latent.shape[1], latent.shape[2], latent.shape[3]), "cpu")
    return noise


def error(made: Tensor, wanted: Tensor) -> float:
    return float((made - wanted).norm() / wanted.norm())


@pytest.mark.parametrize(("sampler", "schedule", "scheduler", "settings"), KINDS)
@torch.no_grad()
def test_from_an_image(
    engine: Engine,
    tiny_folder: Path,
    source: Path,
    sampler: str,
    schedule: str,
    scheduler: str,
    settings: dict[str, object],
) -> None:
    made = ours(engine, sampler, schedule, image=str(source), denoising_strength=0.6)
    them = Theirs.of(tiny_folder, scheduler, settings)
    known = them.encoded(pixels_of(source)) * them.scale
    timesteps = them.last(RUN)
    x = them.scheduler.add_noise(known, noise_of(known), timesteps[:1])
    for t in timesteps:
        x = them.scheduler.step(them.guided(x, t, made), t, x).prev_sample
    assert error(made.known, known) <= 1e-4
    assert error(made.latents, x) <= 1e-3
    assert error(known, x) > 0.1, "the network changes it"


@pytest.mark.parametrize(("sampler", "schedule", "scheduler", "settings"), KINDS)
@torch.no_grad()
def test_inside_a_mask(
    engine: Engine,
    tiny_folder: Path,
    source: Path,
    mask: Path,
    sampler: str,
    schedule: str,
    scheduler: str,
    settings: dict[str, object],
) -> None:
    """Theirs: after each step the known latent, with noise of the next level, is put back where the mask is 0."""
    fields = {"image": str(source), "mask": str(mask), "mask_blur": 0.0, "denoising_strength": 0.6}
    made = ours(engine, sampler, schedule, **fields)
    them = Theirs.of(tiny_folder, scheduler, settings)
    known = them.encoded(pixels_of(source)) * them.scale
    where = latent_mask(mask, SIDE // known.shape[-1])
    timesteps = them.last(RUN)
    noise = noise_of(known)
    x = them.scheduler.add_noise(known, noise, timesteps[:1])
    for i, t in enumerate(timesteps):
        x = them.scheduler.step(them.guided(x, t, made), t, x).prev_sample
        is_last = i == len(timesteps) - 1
        kept = known if is_last else them.scheduler.add_noise(known, noise, timesteps[i + 1 : i + 2])
        x = (1 - where) * kept + where * x
    assert 0.1 < float(where.mean()) < 0.9
    assert error(made.latents, x) <= 1e-3
    whole = ours(engine, sampler, schedule, image=str(source), denoising_strength=0.6)
    assert error(made.latents, whole.latents) > 0.05, "the mask matters inside of it too"


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("inpainting") / "tiny", in_channels=9)


@pytest.fixture(scope="module")
def editing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("editing") / "tiny", in_channels=8)


@pytest.mark.parametrize(("sampler", "schedule", "scheduler", "settings"), KINDS)
@torch.no_grad()
def test_an_inpainting_model(
    inpainting: Path,
    source: Path,
    mask: Path,
    sampler: str,
    schedule: str,
    scheduler: str,
    settings: dict[str, object],
) -> None:
    """The latent, the mask, the latent of the image with grey under the mask; what is kept is put back here too."""
    fields = {"image": str(source), "mask": str(mask), "mask_blur": 0.0, "denoising_strength": 0.6}
    made = ours(engine_on(inpainting), sampler, schedule, **fields)
    them = Theirs.of(inpainting, scheduler, settings)
    pixels = pixels_of(source)
    known = them.encoded(pixels) * them.scale
    where = latent_mask(mask, SIDE // known.shape[-1])
    beside = torch.cat([where, them.encoded(pixels * (latent_mask(mask, 1) < 0.5)) * them.scale], 1)
    timesteps, noise = them.last(RUN), noise_of(known)
    x = them.scheduler.add_noise(known, noise, timesteps[:1])
    for i, t in enumerate(timesteps):
        x = them.scheduler.step(them.guided(x, t, made, beside), t, x).prev_sample
        is_last = i == len(timesteps) - 1
        x = where * x + (1 - where) * (
            known if is_last else them.scheduler.add_noise(known, noise, timesteps[i + 1 :][:1])
        )
    assert error(made.latents, x) <= 1e-3
    seen = ours(engine_on(inpainting), sampler, schedule, **fields, conditional_mask_weight=0.0)
    assert error(seen.latents, x) > 0.01, "what is hidden matters"


@torch.no_grad()
def test_an_inpainting_model_without_an_image(inpainting: Path) -> None:
    """All of it is masked, and the image beside it is grey."""
    made = ours(engine_on(inpainting), "DDIM", "Leading")
    them = Theirs.of(inpainting, "DDIMScheduler", {})
    grey = them.encoded(torch.zeros(1, 3, SIDE, SIDE)) * them.scale
    beside = torch.cat([torch.ones_like(grey[:, :1]), grey], 1)
    x = noise_of(grey)
    for t in them.scheduler.timesteps:
        x = them.scheduler.step(them.guided(x, t, made, beside), t, x).prev_sample
    assert error(made.latents, x) <= 1e-3


@pytest.mark.parametrize(("sampler", "schedule", "scheduler", "settings"), KINDS)
@torch.no_grad()
def test_an_editing_model(
    editing: Path, source: Path, sampler: str, schedule: str, scheduler: str, settings: dict[str, object]
) -> None:
    """From noise; the image's latent, not scaled, is beside it, and 0 in the third branch."""
    fields = {"image": str(source), "denoising_strength": 1.0}
    made = ours(engine_on(editing), sampler, schedule, **fields, image_cfg_scale=IMAGE_SCALE)
    them = Theirs.of(editing, scheduler, settings)
    image = them.encoded(pixels_of(source))
    x = noise_of(image) * them.scheduler.init_noise_sigma
    for t in them.last(STEPS):
        x = them.scheduler.step(them.edited(x, t, made, image, IMAGE_SCALE), t, x).prev_sample
    assert error(made.latents, x) <= 1e-3
    plain = ours(engine_on(editing), sampler, schedule, **fields, image_cfg_scale=1.0)
    x = noise_of(image) * them.scheduler.init_noise_sigma
    for t in them.last(STEPS):
        x = them.scheduler.step(them.guided(x, t, made, image), t, x).prev_sample
    assert error(plain.latents, x) <= 1e-3, "at 1 it is plain guidance"
