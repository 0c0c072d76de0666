"""Stable Diffusion 2's depth model against diffusers' own pipeline: the same latents come out, with a map that is given
and with one that a DPT in the model's folder estimates."""

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
from atelier.pipeline.lent import Lent
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.values import LATENTS, Values
from atelier.runtime.engine import Engine
from pipeline_support import PLENTY, engine_on, planned
from weights_support import assert_close

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")
transformers = pytest.importorskip("transformers", reason="the reference extra is not installed")

SEED, STEPS, SCALE, RUN, SIDE = 7, 10, 3.0, 7, tiny_sd.SIZE
PROMPT, NEGATIVE = "a red cat", "dog"
"""RUN: of 10 steps at a strength of 0.6, as A1111 counts: 6 and one more; at 0.7 as diffusers does."""


def estimator() -> Any:
    torch.manual_seed(4)
    config = transformers.DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16,
        is_hybrid=False,
    )
    return transformers.DPTForDepthEstimation(config).eval()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as a folder with an estimator, and as a single file, which has none."""
    shelf = tmp_path_factory.mktemp("depth")
    made = tiny_sd.sd2(in_channels=5, prediction="epsilon")
    write_diffusers(made, shelf / "folder")
    write_ldm(made, shelf / "file.safetensors")
    estimator().save_pretrained(shelf / "folder" / "depth_estimator")
    reader = transformers.DPTImageProcessor(size={"height": 32, "width": 32}, do_pad=False)
    reader.save_pretrained(shelf / "folder" / "feature_extractor")
    return shelf


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Smooth colours, and a map of another size that is nearer towards the lower right."""
    folder = tmp_path_factory.mktemp("images")
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    pixels = np.stack([rows, columns, (rows - columns) ** 2], -1)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / "image.png")
    far, wide = np.mgrid[0:48, 0:80]
    Image.fromarray((40 + far * 2 + wide).astype(np.uint8)).save(folder / "depth.png")
    return {"image": str(folder / "image.png"), "depth": str(folder / "depth.png")}


@pytest.fixture(scope="module")
def engine(shelf: Path) -> Engine:
    return engine_on(shelf / "folder", budget=PLENTY)


@torch.no_grad()
def ours(engine: Engine, **fields: object) -> Tensor:
    wanted = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "sampler": "DDIM", "scheduler": "Leading", "steps": STEPS}
    wanted |= {"cfg_scale": SCALE, "seed": SEED, "rng": "cpu", "denoising_strength": 0.6}
    stages = [s for s in planned(engine, **{**wanted, **fields}) if not isinstance(s, Decode)]
    values = Values()
    with Lent(engine.resources, stages) as lent:
        for stage in stages:
            list(stage.perform(lent, values))
    return values.read(LATENTS)[0][None]


@torch.no_grad()
def theirs(shelf: Path, images: dict[str, str], depth: Tensor | None, patch: pytest.MonkeyPatch) -> Tensor:
    """The most likely latent of the image in place of a drawn one."""
    from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_depth2img as module

    patch.setattr(module, "retrieve_latents", lambda encoded, **_: encoded.latent_dist.mode())
    own = transformers.DPTForDepthEstimation.from_pretrained(shelf / "folder" / "depth_estimator")
    reader = transformers.DPTImageProcessor.from_pretrained(shelf / "folder" / "feature_extractor")
    pipe = diffusers.StableDiffusionDepth2ImgPipeline.from_pretrained(
        shelf / "folder", depth_estimator=own, feature_extractor=reader
    )
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        PROMPT,
        image=Image.open(images["image"]),
        depth_map=depth,
        strength=RUN / STEPS,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        negative_prompt=NEGATIVE,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
    )
    return made.images


@pytest.mark.parametrize("name", ["folder", "file"])
def test_with_a_map_the_latents_are_those_of_diffusers(
    name: str, engine: Engine, shelf: Path, images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = torch.from_numpy(np.asarray(Image.open(images["depth"]), np.float32))[None]
    expected = theirs(shelf, images, grey, monkeypatch)
    made = ours(engine, model=name, **images)
    assert_close(made, expected, 1e-3)
    flat = images | {"depth": images["image"]}
    assert float((ours(engine, model=name, **flat) - made).abs().max()) > 1e-2


@pytest.mark.filterwarnings(
    "ignore:In CPU autocast, but the target dtype is not supported:UserWarning"  # diffusers asks for it in fp32, too
)
def test_an_estimated_map_is_that_of_diffusers(
    engine: Engine, shelf: Path, images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = theirs(shelf, images, None, monkeypatch)
    assert_close(ours(engine, model="folder", image=images["image"]), expected, 1e-3)


def test_the_folder_says_which_pipeline_opens_it(shelf: Path) -> None:
    assert '"_class_name": "StableDiffusionDepth2ImgPipeline"' in (shelf / "folder/model_index.json").read_text()
    opened = [open_checkpoint(shelf / name) for name in ("folder", "file.safetensors")]
    assert [(found.family.name, found.facts.prediction) for found in opened] == [("sd2", "epsilon")] * 2
