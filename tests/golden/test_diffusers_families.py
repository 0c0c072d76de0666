"""Stable Diffusion XL, its refiner and 2.x against diffusers: the same weights say the same at every stage.

Each tiny model is written as a folder, which diffusers opens; what it computes there is compared with what is computed
here from the single file, whose names and joined tensors are others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tiny_sd
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.text import encode, text_encoder
from atelier.checkpoints.write import write_diffusers, write_ldm
from atelier.errors import BadInput
from atelier.families.parts import UNET, VAE
from atelier.families.telling import Telling
from atelier.nn.ports import Conditioning
from atelier.pipeline.lent import Lent
from atelier.pipeline.values import LATENTS, Values
from pipeline_support import engine_on, planned
from weights_support import assert_close

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")

PROMPT, NEGATIVE, SEED, STEPS, SCALE = "a red cat", "dog", 11, 4, 3.0
MADE = {"sdxl": tiny_sd.sdxl, "sdxl-refiner": tiny_sd.refiner, "sd2": tiny_sd.sd2}
PIPELINES = {
    "sdxl": "StableDiffusionXLPipeline",
    "sdxl-refiner": "StableDiffusionXLImg2ImgPipeline",
    "sd2": "StableDiffusionPipeline",
}
every = pytest.mark.parametrize("name", MADE)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = tmp_path_factory.mktemp("shelf")
    for name, make in MADE.items():
        write_ldm(make(), shelf / f"{name}.safetensors")
        write_diffusers(make(), shelf / name)
    return shelf


@pytest.fixture(scope="module")
def opened(shelf: Path) -> dict[str, Checkpoint]:
    return {name: open_checkpoint(shelf / f"{name}.safetensors") for name in MADE}


@pytest.fixture(scope="module")
def theirs(shelf: Path) -> dict[str, Any]:
    """The pipelines of diffusers, opened from what was written here."""
    pipes: dict[str, Any] = {}
    for name, kind in PIPELINES.items():
        pipe = getattr(diffusers, kind).from_pretrained(shelf / name)
        pipe.set_progress_bar_config(disable=True)
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(
            pipe.scheduler.config, timestep_spacing="trailing"
        )
        pipes[name] = pipe
    return pipes


def said(pipe: Any, name: str, text: str, other: str | None) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """(tokens, negative tokens, pooled, negative pooled) as diffusers encodes them."""
    found = pipe.encode_prompt(
        text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True, negative_prompt=other
    )
    return found if name != "sd2" else (*found, None, None)


@torch.no_grad()
@every
def test_text_states_are_those_of_diffusers(name: str, opened: dict[str, Checkpoint], theirs: dict[str, Any]) -> None:
    tokens, negative, pooled, negative_pooled = said(theirs[name], name, PROMPT, NEGATIVE)
    ours = encode(text_encoder(opened[name]), [PROMPT, NEGATIVE])
    assert_close(ours.tokens, torch.cat([tokens, negative]))
    if pooled is not None:
        assert ours.pooled is not None
        assert negative_pooled is not None
        assert_close(ours.pooled, torch.cat([pooled, negative_pooled]))


@torch.no_grad()
@every
def test_the_network_says_what_it_says_in_diffusers(
    name: str, opened: dict[str, Checkpoint], theirs: dict[str, Any]
) -> None:
    unet, make = opened[name].load(UNET), torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=make)

    x, t, tokens = draw(2, unet.spec.in_channels, 16, 24), torch.tensor([7.0, 901.0]), draw(2, 5, unet.spec.context)
    cond, added = Conditioning(tokens), None
    if unet.spec.vector is not None:
        count = 5 if name == "sdxl-refiner" else 6
        pooled, sizes = draw(2, tiny_sd.G), torch.tensor([[1500.0, 333, 12, 7, 640, 888], [64, 80, 0, 3, 64, 96]])
        sizes = sizes[:, :count]
        cond = Conditioning(tokens, pooled, sizes)
        added = {"text_embeds": pooled, "time_ids": sizes}
    expected = theirs[name].unet(x, t, tokens, added_cond_kwargs=added).sample
    assert_close(unet(x, t, cond), expected)


@torch.no_grad()
@every
def test_the_autoencoder_says_what_it_says_in_diffusers(
    name: str, opened: dict[str, Checkpoint], theirs: dict[str, Any]
) -> None:
    vae, latent = opened[name].load(VAE), torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    decoded = theirs[name].vae.decode(latent).sample
    assert_close(vae.decode(latent), decoded)
    assert_close(vae.encode(decoded).mean, theirs[name].vae.encode(decoded).latent_dist.mean)
    assert theirs[name].vae.config.scaling_factor == opened[name].latent.scale


@torch.no_grad()
def sampled(shelf: Path, name: str, **fields: object) -> Tensor:
    """What is sampled here, (1, C, h, w)."""
    engine = engine_on(shelf / f"{name}.safetensors")
    asked = {"prompt": PROMPT, "sampler": "Euler", "scheduler": "Turbo", "steps": STEPS, "cfg_scale": SCALE}
    asked |= {"seed": SEED, "rng": "cpu", "model": name, **fields}
    stages, values = planned(engine, **asked)[:2], Values()
    with Lent(engine.resources, stages) as have:
        for stage in stages:
            list(stage.perform(have, values))
    return values.read(LATENTS)[0][None]


@torch.no_grad()
def by_hand(pipe: Any, conds: Sequence[dict[str, Any]], factor: int = 4) -> Tensor:
    """diffusers' scheduler and network, one row after the other: the negative prompt, then the prompt."""
    pipe.scheduler.set_timesteps(STEPS)
    noise = torch.randn(
        1, 4, tiny_sd.SIZE // factor, tiny_sd.SIZE // factor, generator=torch.Generator().manual_seed(SEED)
    )
    x = noise * pipe.scheduler.init_noise_sigma
    for t in pipe.scheduler.timesteps:
        scaled = pipe.scheduler.scale_model_input(x, t)
        negative, positive = (pipe.unet(scaled, t, **cond).sample for cond in conds)
        x = pipe.scheduler.step(negative + SCALE * (positive - negative), t, x).prev_sample
    return x


@pytest.mark.parametrize("negative", [NEGATIVE, ""])
@pytest.mark.parametrize("name", ["sdxl", "sd2"])
def test_a_trajectory_is_that_of_the_pipeline(name: str, negative: str, shelf: Path, theirs: dict[str, Any]) -> None:
    """An empty negative prompt is no text at all for XL, there and here."""
    expected = theirs[name](
        PROMPT,
        negative_prompt=negative or None,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        generator=torch.Generator().manual_seed(SEED),
        height=tiny_sd.SIZE,
        width=tiny_sd.SIZE,
        output_type="latent",
    ).images
    ours = sampled(shelf, name, negative_prompt=negative)
    assert_close(ours, expected)
    assert float((ours - sampled(shelf, name, negative_prompt="cat")).abs().max()) > 1e-3


SAID = {
    "original_size": (96, 48),
    "crop_top": 5,
    "crop_left": 9,
    "target_size": (80, 72),
    "negative_original_size": (32, 40),
    "negative_crop_top": 2,
    "negative_crop_left": 1,
    "negative_target_size": (56, 88),
}
"""Widths before heights; no two numbers alike."""


def test_other_sizes_are_told_as_the_pipeline_is_told_them(shelf: Path, theirs: dict[str, Any]) -> None:
    expected = theirs["sdxl"](
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        generator=torch.Generator().manual_seed(SEED),
        height=tiny_sd.SIZE,
        width=tiny_sd.SIZE,
        original_size=(48, 96),
        crops_coords_top_left=(5, 9),
        target_size=(72, 80),
        negative_original_size=(40, 32),
        negative_crops_coords_top_left=(2, 1),
        negative_target_size=(88, 56),
        output_type="latent",
    ).images
    ours = sampled(shelf, "sdxl", negative_prompt=NEGATIVE, **SAID)
    assert_close(ours, expected)
    for name in SAID:
        rest = {key: value for key, value in SAID.items() if key != name}
        assert not torch.equal(sampled(shelf, "sdxl", negative_prompt=NEGATIVE, **rest), ours), name


def test_the_usual_sizes_said_are_the_image_without_them(shelf: Path) -> None:
    side = (tiny_sd.SIZE, tiny_sd.SIZE)
    plain = sampled(shelf, "sdxl", negative_prompt=NEGATIVE)
    for said in (side, (0, 0)):
        told = {"original_size": said, "target_size": said, "crop_top": 0, "crop_left": 0, "negative_crop_top": 0}
        assert torch.equal(sampled(shelf, "sdxl", negative_prompt=NEGATIVE, **told), plain)


@pytest.mark.parametrize("scores", [(6.0, 2.5), (7.5, 4.0)])
def test_a_refiner_is_told_what_diffusers_tells_it(
    scores: tuple[float, float], shelf: Path, theirs: dict[str, Any]
) -> None:
    """6 for the prompt, 2.5 for the negative one, where nobody says."""
    pipe = theirs["sdxl-refiner"]
    tokens, negative, pooled, negative_pooled = said(pipe, "sdxl-refiner", PROMPT, NEGATIVE)
    side = (tiny_sd.SIZE, tiny_sd.SIZE)
    asked, kept = pipe._get_add_time_ids(
        side, (0, 0), side, *scores, side, (0, 0), side, dtype=torch.float32, text_encoder_projection_dim=tiny_sd.G
    )
    rows = ((negative, negative_pooled, kept), (tokens, pooled, asked))
    conds = [
        {"encoder_hidden_states": own, "added_cond_kwargs": {"text_embeds": vector, "time_ids": ids}}
        for own, vector, ids in rows
    ]
    own = {} if scores == (6.0, 2.5) else {"aesthetic_score": scores[0], "negative_aesthetic_score": scores[1]}
    assert_close(sampled(shelf, "sdxl-refiner", negative_prompt=NEGATIVE, **own), by_hand(pipe, conds))


def test_sizes_are_told_as_the_papers_say() -> None:
    """Podell 2023: height before width, in pixels; the crop begins at the corner."""
    told = Telling(height=832, width=1216)
    text = Conditioning(torch.ones(5, 3), torch.ones(2))
    assert tiny_sd.SDXL.tell(text, told).sizes.tolist() == [832, 1216, 0, 0, 832, 1216]
    assert tiny_sd.REFINER.tell(text, told).sizes.tolist() == [832, 1216, 0, 0, 6.0]
    empty = Telling(832, 1216, negative=True, empty=True)
    for family, sizes in ((tiny_sd.SDXL, [832, 1216, 0, 0, 832, 1216]), (tiny_sd.REFINER, [832, 1216, 0, 0, 2.5])):
        said = family.tell(text, empty)
        assert (said.sizes.tolist(), float(said.tokens.abs().max()), float(said.pooled.abs().max())) == (sizes, 0, 0)
        for other in (Telling(1, 1, negative=True), Telling(1, 1, empty=True)):
            assert torch.equal(family.tell(text, other).tokens, text.tokens)
    assert tiny_sd.SD2.tell(text, empty) is text


@every
def test_what_diffusers_saves_opens_here_bit_for_bit(
    name: str, opened: dict[str, Checkpoint], theirs: dict[str, Any], tmp_path: Path
) -> None:
    theirs[name].save_pretrained(tmp_path / name)
    found = open_checkpoint(tmp_path / name)
    assert found.family is opened[name].family
    for part in found.family.parts:
        if not part.required:
            continue
        own, before = found.tensors(part), opened[name].tensors(part)
        assert own.keys() <= before.keys()
        assert all(torch.equal(own[key], before[key]) for key in own), part.name
        if name != "sd2" or part.name != "text":
            assert own.keys() == before.keys()
            assert found.spec(part) == opened[name].spec(part)


@torch.no_grad()
def test_a_tower_without_its_last_layer_says_the_same(
    opened: dict[str, Checkpoint], theirs: dict[str, Any], tmp_path: Path
) -> None:
    """What diffusers saves of 2.x has two of its three layers; clip skip counts from the same place."""
    theirs["sd2"].save_pretrained(tmp_path / "cut")
    cut, whole = (text_encoder(model) for model in (open_checkpoint(tmp_path / "cut"), opened["sd2"]))
    assert [encoder.towers[0].net.spec.layers for encoder in (cut, whole)] == [2, 3]
    said = [encode(whole, [PROMPT], skip).tokens for skip in (1, 2, 3)]
    for skip, expected in zip((1, 2, 3), said, strict=True):
        assert torch.equal(encode(cut, [PROMPT], skip).tokens, expected), skip
    assert torch.equal(said[0], said[1])
    assert not torch.equal(said[1], said[2])
    for encoder in (cut, whole):
        with pytest.raises(BadInput, match="3 layers"):
            encode(encoder, [PROMPT], 4)


def test_open_clips_names_are_read_as_diffusers_reads_them(shelf: Path) -> None:
    """diffusers' own converter of single files, on the tower with its joined and turned matrices."""
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextModelWithProjection

    pipe = CLIPTextModelWithProjection.from_pretrained(shelf / "sdxl" / "text_encoder_2")
    stored = load_file(shelf / "sdxl.safetensors")
    found = convert_open_clip_checkpoint(pipe, dict(stored), prefix="conditioner.embedders.1.model.")
    expected = load_file(shelf / "sdxl" / "text_encoder_2" / "model.safetensors")
    assert {name.removeprefix("text_model.") for name in found} == {n.removeprefix("text_model.") for n in expected}
    for name, tensor in found.items():
        assert torch.equal(tensor, expected.get(name, expected.get(f"text_model.{name}"))), name
