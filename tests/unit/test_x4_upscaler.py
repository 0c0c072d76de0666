"""Models that make an image larger: what the network sees in which part of it, the command, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny
import tiny_sd
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers, write_ldm
from atelier.cli.app import run
from atelier.errors import BadFile, BadInput
from atelier.pipeline.stages.encode_small import noised
from atelier.request.infotext import read, to_request
from atelier.request.resolved import NoisedChannels, NoSource, NoViews, ResolvedViews, Size
from atelier.runtime.engine import Engine
from pipeline_support import PLENTY, TOGETHER, Call, Lending, Letters, Watched, engine_on, happened, planned, request


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of views of 64x64 pixels, which 16x16 pixels of a small image become."""
    shelf = tmp_path_factory.mktemp("x4")
    write_ldm(tiny_sd.x4_upscaler(), shelf / "tiny.safetensors")
    write_diffusers(tiny_sd.x4_upscaler(), shelf / "folder")
    tiny.folder(shelf / "plain")
    return shelf


@pytest.fixture(scope="module")
def engine(shelf: Path) -> Engine:
    return engine_on(shelf / "tiny.safetensors", budget=PLENTY, device=TOGETHER)


def picture(path: Path, width: int, height: int) -> str:
    pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def calls(engine: Engine, **fields: object) -> list[Call]:
    net = Watched()
    have = Lending(engine.resources, {"text": Letters, "denoiser": net.alone})
    happened(planned(engine, max_batch=4, steps=1, sampler="Euler", **fields), have)
    return net.calls


def test_each_sample_sees_the_image_with_noise_of_its_own(engine: Engine, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", 16, 16)
    (clean,) = calls(engine, image=image, noise_level=0)
    pixels = torch.from_numpy(np.asarray(Image.open(image), np.float32) / 127.5 - 1).permute(2, 0, 1)
    assert clean.channels is not None
    assert clean.channels.shape == (2, 3, 16, 16)
    assert float((clean.channels[0] - pixels).abs().max()) < 0.06
    (seen,) = calls(engine, image=image, noise_level=200, batch_size=2)
    assert seen.channels is not None
    assert torch.equal(seen.channels[:2], seen.channels[2:])
    assert float((seen.channels[0] - seen.channels[1]).abs().mean()) > 0.3
    (alone,) = calls(engine, image=image, noise_level=200, seed=8)
    assert alone.channels is not None
    assert torch.equal(alone.channels[0], seen.channels[1])
    noise = (seen.channels[0] - pixels * (1 - 0.15)).flatten()
    assert abs(float(torch.corrcoef(torch.stack([noise, seen.x[0, :3].flatten()]))[0, 1])) < 0.15


def test_noise_keeps_the_variance(engine: Engine) -> None:
    """The published levels: of level 200 the image's share is the root of the product of 1 - beta up to there."""
    augmented = tiny_sd.UPSCALER.augmented
    assert augmented is not None
    betas = np.linspace(0.0001**0.5, 0.02**0.5, 1000) ** 2
    kept = np.prod(1 - betas[:201])
    one, zero = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    assert torch.allclose(noised(one, zero, 200, augmented()), torch.full_like(one, kept**0.5), atol=1e-5)
    assert torch.allclose(noised(zero, one, 200, augmented()), torch.full_like(one, (1 - kept) ** 0.5), atol=1e-5)


def test_a_view_sees_its_own_part_of_the_image(engine: Engine, tmp_path: Path) -> None:
    """24x20 positions in views of 16x16 that share 4: at 0 and 8 across, at 0 and 4 down; of two samples each."""
    image = picture(tmp_path / "a.png", 24, 20)
    wanted = {"image": image, "noise_level": 0, "batch_size": 2}
    views = {"view_method": "multidiffusion", "view_width": 96, "view_height": 80, "view_overlap": 16}
    (whole,) = calls(engine, **wanted, **views)
    assert whole.channels is not None
    assert whole.channels.shape == (4, 3, 20, 24)
    seen = calls(engine, **wanted)
    resolved = engine.resolve(request(**wanted))
    assert resolved.views == ResolvedViews(size=Size(64, 64), overlap=16, method="mixture")
    corners = [(down, across) for down in (0, 4) for across in (0, 8)]
    rows = [row for call in seen for row in (call.channels if call.channels is not None else ())]
    assert len(rows) == 2 * 2 * len(corners)
    at_once = len(seen[0].x) // 4
    for number, call in enumerate(seen):
        places = corners[number * at_once : (number + 1) * at_once]
        expected = [whole.channels[sample, :, d : d + 16, a : a + 16] for d, a in places for sample in (0, 1)]
        assert call.channels is not None
        assert torch.equal(call.channels, torch.stack([*expected, *expected]))


def test_an_image_no_larger_than_a_view_is_made_in_one_piece(engine: Engine, tmp_path: Path) -> None:
    resolved = engine.resolve(request(image=picture(tmp_path / "a.png", 16, 16)))
    assert isinstance(resolved.views, NoViews)
    assert (resolved.size, resolved.source) == (Size(64, 64), NoSource())
    assert isinstance(resolved.channels, NoisedChannels)
    assert (resolved.channels.level, resolved.sampling.sampler, resolved.guidance.scale) == (20, "DDIM", 9.0)
    (made,) = engine.generate(request(image=picture(tmp_path / "odd.png", 17, 19), steps=1))
    assert made.image.size == (68, 76)


def test_the_command_enlarges_and_says_how(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_MODELS", str(shelf))
    monkeypatch.setenv("ATELIER_DEVICE", "cpu")
    picture(tmp_path / "a.png", 20, 16)
    own = ["--model", "tiny", "--prompt", "a cat", "--negative", "dog", "--steps", "2", "--seed", "5", "--tile", "16"]
    asked = ["upscale", "a.png", *own, "--cfg-scale", "4", "--noise-level", "30", "--out", "large.png"]
    assert run(asked) == 0, capsys.readouterr().err
    with Image.open("large.png") as image:
        text = str(image.info["parameters"])
        first = image.convert("RGB").tobytes()
        assert image.size == (80, 64)
    assert text.startswith("a cat\nNegative prompt: dog\nSteps: 2, Sampler: DDIM,")
    for pair in ("CFG scale: 4", "Seed: 5", "Noise level: 30", "View width: 64", "View overlap: 16"):
        assert f", {pair}" in text
    again = engine_on(shelf / "tiny.safetensors").generate(to_request(read(text), {"image": "a.png", "model": "tiny"}))
    assert again[0].image.tobytes() == first
    assert run(["upscale", "a.png", "missing.png", *own, "--out", "many"]) == 1
    assert len(list(Path("many").glob("*.png"))) == 1


def test_what_is_said_of_the_views_of_a_narrow_image_is_read_again(tmp_path: Path) -> None:
    """17 pixels become 68, which is no multiple of 8; a view of 72 is as wide as the image."""
    write_ldm(tiny_sd.x4_upscaler(2 * tiny_sd.SIZE), tmp_path / "tiny.safetensors")
    engine, image = engine_on(tmp_path / "tiny.safetensors", budget=PLENTY), picture(tmp_path / "a.png", 17, 40)
    (made,) = engine.generate(request(image=image, steps=1))
    assert ", View width: 72, View height: 128, View overlap: 17" in made.infotext
    again = to_request(read(made.infotext), {"image": image, "model": "tiny"})
    assert engine.resolve(again).views == ResolvedViews(size=Size(72, 128), overlap=17, method="mixture")
    assert {call.x.shape[2:] for call in calls(engine, image=image)} == {(32, 17)}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model", "tiny", "--scale", "2"], "--scale 2: a model makes an image 4 times larger"),
        (["--model", "tiny", "--upscaler", "Nearest"], "--upscaler does not go with --model"),
        (["--model", "tiny", "--format", "jpg"], "--format does not go with --model"),
        (["--prompt", "a cat"], "are for --model: name one"),
        (["--model", "plain"], "plain: makes no image larger"),
    ],
)
def test_what_does_not_go_together_is_refused(
    more: list[str],
    told: str,
    shelf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_MODELS", str(shelf))
    picture(tmp_path / "a.png", 16, 16)
    assert run(["upscale", "a.png", *more]) == 2
    assert told in capsys.readouterr().err


def test_what_needs_another_start_is_refused(engine: Engine, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", 16, 16)
    with pytest.raises(BadInput, match="upscaling model, which makes an image larger: give --image"):
        engine.resolve(request())
    for name, fields in {
        "mask": {"mask": image},
        "outpaint": {"outpaint": "left=8"},
        "a second pass": {"hires_upscale": 2.0},
        "sd_upscale": {"sd_upscale_factor": 2.0},
        "denoising_strength": {"denoising_strength": 0.5},
    }.items():
        with pytest.raises(BadInput, match=f"which starts from noise: leave out {name}"):
            engine.resolve(request(image=image, **fields))
    with pytest.raises(BadInput, match="which makes 64x64 of the image: leave out width and height"):
        engine.resolve(request(image=image, width=128))
    with pytest.raises(BadInput, match=r"small.png becomes 32x64, each side must be from 64 to 8192"):
        engine.resolve(request(image=picture(tmp_path / "small.png", 8, 16)))


def test_a_file_is_told_from_that_of_2_x(shelf: Path, tmp_path: Path) -> None:
    """Published files hold the levels of the noise on the image; here they are computed."""
    found = open_checkpoint(shelf / "tiny.safetensors")
    assert (found.family.name, found.ends.in_channels, found.facts.prediction) == ("sd2-x4-upscaler", 7, "velocity")
    tensors = load_file(shelf / "tiny.safetensors") | {"low_scale_model.betas": torch.ones(1000)}
    save_file(tensors, tmp_path / "bare.safetensors")
    bare = open_checkpoint(tmp_path / "bare.safetensors")
    assert (bare.family.name, bare.facts.beta_end, bare.latent.scale) == ("sd2-x4-upscaler", 0.02, 0.08333)
    assert bare.ignored == ("low_scale_model.betas",)


def test_settings_that_would_make_another_network_are_refused(shelf: Path, tmp_path: Path) -> None:
    import shutil

    cases = {
        "low_res_scheduler/scheduler_config.json": ("beta_schedule", "linear", "says beta_schedule is"),
        "unet/config.json": ("only_cross_attention", False, "says only_cross_attention is false"),
    }
    for place, (key, value, told) in cases.items():
        shutil.copytree(shelf / "folder", tmp_path / key)
        path = tmp_path / key / place
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
        with pytest.raises(BadFile, match=told):
            open_checkpoint(tmp_path / key)
