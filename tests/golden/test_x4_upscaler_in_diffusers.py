"""Stable Diffusion's x4 upscaler against diffusers: the network, and all of its pipeline with the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny_sd
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers, write_ldm
from atelier.diffusion.rng import stream
from atelier.families.parts import UNET
from atelier.nn.ports import Conditioning
from atelier.pipeline.lent import Lent
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.stages.encode_small import APART
from atelier.pipeline.values import LATENTS, Values
from pipeline_support import PLENTY, engine_on, planned
from weights_support import assert_close

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")

SEED, STEPS, SCALE, LEVEL = 7, 4, 3.0, 150
PROMPT, NEGATIVE = "a red cat", "dog"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = tmp_path_factory.mktemp("x4")
    write_diffusers(tiny_sd.x4_upscaler(side=96), shelf / "folder")
    write_ldm(tiny_sd.x4_upscaler(side=96), shelf / "file.safetensors")
    return shelf


@pytest.fixture(scope="module")
def pipe(shelf: Path) -> Any:
    pipe = diffusers.StableDiffusionUpscalePipeline.from_pretrained(shelf / "folder")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 wide, 16 high."""
    path = tmp_path_factory.mktemp("images") / "small.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(path)
    return path


@torch.no_grad()
@pytest.mark.parametrize("name", ["folder", "file.safetensors"])
def test_the_network_says_what_it_says_in_diffusers(name: str, shelf: Path, pipe: Any) -> None:
    unet, make = open_checkpoint(shelf / name).load(UNET), torch.Generator().manual_seed(1)
    assert unet.spec == tiny_sd.x4_upscaler().spec(UNET)
    x, t = torch.randn(2, 7, 16, 24, generator=make), torch.tensor([7.0, 901.0])
    tokens, level = torch.randn(2, 5, tiny_sd.G, generator=make), torch.tensor([3, 350])
    expected = pipe.unet(x, t, tokens, class_labels=level).sample
    assert_close(unet(x, t, Conditioning(tokens, level=level)), expected)
    with pytest.raises(ValueError, match="level of noise"):
        unet(x, t, Conditioning(tokens))


@torch.no_grad()
def ours(shelf: Path, small: Path, **fields: object) -> Tensor:
    engine = engine_on(shelf / "folder", budget=PLENTY)
    wanted = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "sampler": "DDIM", "scheduler": "Leading", "rng": "cpu"}
    wanted |= {"steps": STEPS, "cfg_scale": SCALE, "seed": SEED, "image": str(small), "noise_level": LEVEL}
    stages = [s for s in planned(engine, **{**wanted, **fields}) if not isinstance(s, Decode)]
    values = Values()
    with Lent(engine.resources, stages) as lent:
        for stage in stages:
            list(stage.perform(lent, values))
    return values.read(LATENTS)[0][None]


@pytest.mark.parametrize("name", ["folder", "file"])
def test_the_pipeline_of_diffusers_gives_the_same_latents(
    name: str, shelf: Path, pipe: Any, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its noise on the small image is drawn from the same generator as the latents'; here it has a seed of its own."""
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_upscale as module

    noise = stream(SEED + APART, "cpu").normal((1, 3, 16, 20))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: noise)
    expected = pipe(
        PROMPT,
        image=Image.open(small),
        noise_level=LEVEL,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        latents=stream(SEED, "cpu").normal((1, 4, 16, 20)),
        output_type="latent",
    ).images
    made = ours(shelf, small, model=name)
    assert_close(made, expected, 1e-3)
    assert float((ours(shelf, small, model=name, noise_level=0) - made).abs().max()) > 1e-2


def test_what_diffusers_saves_opens_here(shelf: Path, pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "theirs")
    found, before = open_checkpoint(tmp_path / "theirs"), open_checkpoint(shelf / "folder")
    assert (found.family.name, found.facts.prediction) == ("sd2-x4-upscaler", "velocity")
    assert (found.latent.factor, found.latent.scale) == (4, 0.08333)
    own, theirs = before.tensors(UNET), found.tensors(UNET)
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[key], theirs[key]) for key in own)
