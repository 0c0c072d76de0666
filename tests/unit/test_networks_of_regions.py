"""LoRAs that the prompts of regions name: each acts in its region alone, in the U-Net and in the text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_networks_in_prompts import SIZES, TEXT, UNET, lora
from torch import Tensor

import tiny
from atelier.cli.app import run as command
from atelier.errors import BadInput
from atelier.pipeline.lent import Lent
from atelier.pipeline.plan import plan
from atelier.pipeline.stages.decode import Decode
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.pipeline.stages.encode import Encode
from atelier.pipeline.values import LATENTS, Values
from atelier.runtime.engine import Engine
from pipeline_support import PLENTY, PROVENANCE, engine_on, request

LEFT, RIGHT = "box=0,0,0.5,1: a red cat", "box=0.5,0,1,1: a dog"
HALF = 8
"""Positions of the latent from one side to the middle."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.folder(folder / "tiny")
    lora(folder / "Lora" / "unet.safetensors", UNET, seed=1)
    lora(folder / "Lora" / "other.safetensors", UNET, seed=3)
    lora(folder / "Lora" / "words.safetensors", TEXT, seed=2)
    lora(folder / "Lora" / "both.safetensors", seed=4)
    return folder


@pytest.fixture(scope="module")
def engine(models: Path) -> Engine:
    return engine_on(models / "tiny", budget=PLENTY)


def latents(engine: Engine, *regions: str, **fields: Any) -> Tensor:
    """What sampling leaves of the image (C, 16, 16), after one step unless said otherwise."""
    resolved = engine.resolve(request(**{"prompt": "a meadow", "steps": 1, "regions": regions, **fields}))
    stages = plan(resolved, resolved.sampling, PROVENANCE, max_batch=1)
    values = Values()
    with Lent(engine.resources, stages) as lent:
        for stage in stages:
            if not isinstance(stage, Decode):
                list(stage.perform(lent, values))
    return values.read(LATENTS)[0]


def left(latent: Tensor) -> Tensor:
    return latent[..., :HALF]


def right(latent: Tensor) -> Tensor:
    return latent[..., HALF:]


def test_each_acts_in_its_half_alone(engine: Engine):
    """After one step the halves have not seen each other: what is not asked for is equal to the last bit."""
    plain = latents(engine, LEFT, RIGHT)
    one = latents(engine, LEFT + "<lora:unet>", RIGHT)
    other = latents(engine, LEFT, RIGHT + "<lora:other>")
    two = latents(engine, LEFT + "<lora:unet>", RIGHT + "<lora:other>")
    assert torch.equal(right(one), right(plain))
    assert torch.equal(left(other), left(plain))
    assert (left(one) - left(plain)).abs().max() > 1e-2
    assert (right(other) - right(plain)).abs().max() > 1e-2
    assert torch.equal(left(two), left(one))
    assert torch.equal(right(two), right(other))


def test_it_is_the_half_of_an_image_with_the_lora_everywhere(engine: Engine):
    whole = latents(engine, prompt="a red cat<lora:unet:0.7>")
    assert torch.equal(left(latents(engine, LEFT + "<lora:unet:0.7>", RIGHT)), left(whole))


def test_what_no_region_covers_is_without_it(engine: Engine):
    plain = latents(engine, LEFT)
    assert torch.equal(right(latents(engine, LEFT + "<lora:both>")), right(plain))
    assert not torch.equal(left(latents(engine, LEFT + "<lora:both>")), left(plain))


def test_text_encoders_have_the_lora_of_their_region(engine: Engine):
    """In the negative prompt of the region too, as in that of an image."""
    whole = latents(engine, prompt="a red cat<lora:words>", negative_prompt="blurry")
    tagged = latents(engine, LEFT + "<lora:words>", RIGHT, negative_prompt="blurry")
    assert torch.equal(left(tagged), left(whole))
    assert torch.equal(right(tagged), right(latents(engine, LEFT, RIGHT, negative_prompt="blurry")))


def test_the_images_own_act_everywhere_and_come_first(engine: Engine):
    everywhere = {"prompt": "a meadow<lora:unet:0.5>"}
    made = latents(engine, LEFT + "<lora:other>", RIGHT, **everywhere)
    assert torch.equal(left(made), left(latents(engine, prompt="a red cat<lora:unet:0.5><lora:other>")))
    assert torch.equal(right(made), right(latents(engine, prompt="a dog<lora:unet:0.5>")))
    twice = latents(engine, LEFT + "<lora:unet:0.5>", RIGHT, **everywhere)
    assert torch.allclose(left(twice), left(latents(engine, prompt="a red cat<lora:unet:1>")), atol=1e-4)


def test_both_passes_have_them(engine: Engine):
    twice = {"hires_upscale": 2.0, "hires_steps": 1, "denoising_strength": 0.5}
    plain, tagged = (latents(engine, own, RIGHT, **twice) for own in (LEFT, LEFT + "<lora:both>"))
    assert plain.shape[-1] == 4 * HALF
    assert not torch.equal(plain, tagged)
    resolved = engine.resolve(request(prompt="a meadow", regions=(LEFT + "<lora:both>", RIGHT), **twice))
    stages = plan(resolved, resolved.sampling, PROVENANCE)
    assert len([own for own in stages if isinstance(own, Encode)]) == 2, "once with the network, once without"
    named = [
        [merged.file.name for each in own.regional for merged in each.adapted.merged]
        for own in stages
        if isinstance(own, Diffuse)
    ]
    assert named == [["both"], ["both"]]


def test_images_of_one_batch_may_name_others(engine: Engine):
    """The tag is drawn from a choice for each image by itself."""
    region = "box=0,0,0.5,1: a red cat{<lora:both:1>|<lora:unet:1>}"
    made = engine.generate(request(regions=(region, RIGHT), batch_size=4, steps=1, choices=True))
    tags = ["<lora:both:1>" if "cat<lora:both:1>" in one.infotext else "<lora:unet:1>" for one in made]
    assert len(set(tags)) == 2
    for one, tag in zip(made, tags, strict=True):
        (alone,) = engine.generate(request(regions=(LEFT + tag, RIGHT), steps=1, seed=one.seed))
        assert alone.image.tobytes() == one.image.tobytes()


def test_networks_share_what_no_lora_changes(models: Path):
    engine = engine_on(models / "tiny", budget=PLENTY)
    latents(engine, LEFT, RIGHT)
    plain = engine.resources.cache.bytes
    latents(engine, LEFT + "<lora:both>", RIGHT + "<lora:other>")
    once = sum(4 * out * into for out, into in SIZES.values())
    assert engine.resources.cache.bytes - plain == once + 4 * SIZES[UNET][0] * SIZES[UNET][1]


def test_attention_has_one_network_and_says_so(engine: Engine):
    asked = {"regions": (LEFT + "<lora:both>", RIGHT), "region_method": "attention"}
    with pytest.raises(BadInput, match="<lora:both> in the prompt of a region needs region_method latent") as caught:
        engine.resolve(request(**asked))
    assert "\n" not in str(caught.value)
    told: list[str] = []
    (made,) = engine.generate(request(**asked, lenient=True, steps=1))
    assert engine.resolve(request(**asked, lenient=True), told.append).adapters == ()
    assert told[0].endswith(": generated without it")
    (plain,) = engine.generate(request(regions=(LEFT, RIGHT), region_method="attention", steps=1))
    assert made.image.tobytes() == plain.image.tobytes()
    everywhere = {**asked, "prompt": "a meadow<lora:both>", "regions": (LEFT, RIGHT)}
    assert len(engine.resolve(request(**everywhere)).adapters) == 1


def test_an_image_is_generated_again_to_the_last_bit(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ATELIER_MODELS", str(models))
    out = str(tmp_path / "a.png")
    regions = ("--region", LEFT + "<lora:unet:0.7>", "--region", RIGHT + "<lora:both>")
    made = ["generate", "a meadow", *regions, "--model", "tiny", "--steps", "2", "--seed", "3", "--output", out]
    assert command(made) == 0
    capsys.readouterr()
    assert command(["info", out]) == 0
    told = capsys.readouterr().out
    assert "<lora:unet:0.7>" in told
    assert "unet: " in told
    assert "both: " in told
    assert command(["generate", "--from", out, "--verify"]) == 0
    assert "equal: every pixel" in capsys.readouterr().out
    lora(models / "Lora" / "unet.safetensors", UNET, seed=77)
    assert command(["generate", "--from", out, "--verify"]) == 1
    assert "lora hashes: 'unet: " in capsys.readouterr().out
