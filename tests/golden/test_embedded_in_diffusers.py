"""The embedded model, written by `models convert`, paints the same pictures in diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers
from atelier.compose import engine
from atelier.request.groups import Noise
from atelier.request.model import Request

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")

PROMPT, NEGATIVE, SEED, STEPS, SCALE = "a red apple on a blue background", "a white background", 11, 10, 3.0

SAMPLERS = [
    ("DDIM", "Turbo", "DDIMScheduler", {}),
    ("DDIM", "Leading", "DDIMScheduler", {"timestep_spacing": "leading"}),
    ("Euler", "Uniform", "EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
    ("DPM++ 2M", "Turbo", "DPMSolverMultistepScheduler", {}),
]
"""Without settings, diffusers takes the steps that the model's folder asks for: trailing ones, which are Turbo here."""


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "embedded"
    write_diffusers(open_checkpoint(embedded_folder()), folder, torch.float32)
    return folder


@pytest.mark.parametrize(("sampler", "schedule", "scheduler", "settings"), SAMPLERS)
def test_same_picture(
    converted: Path, sampler: str, schedule: str, scheduler: str, settings: dict[str, object]
) -> None:
    ours = (
        engine()
        .generate(
            Request(
                prompt=PROMPT,
                negative_prompt=NEGATIVE,
                model=str(converted),
                sampler=sampler,
                scheduler=schedule,
                steps=STEPS,
                cfg_scale=SCALE,
                seed=SEED,
                noise=Noise(rng="cpu"),
            )
        )[0]
        .image
    )
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(converted)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config, **settings)
    theirs = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        generator=torch.Generator().manual_seed(SEED),
        height=ours.height,
        width=ours.width,
    ).images[0]
    difference = np.abs(np.asarray(ours, np.int16) - np.asarray(theirs, np.int16))
    assert np.asarray(ours).std() > 5
    assert np.mean(difference <= 2) >= 0.99
