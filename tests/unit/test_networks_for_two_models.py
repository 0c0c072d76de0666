"""Weight adapters and textual inversions where a second pass has another model, and files that are no numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import tiny
import tiny_sd
from atelier.checkpoints.write import write_ldm
from atelier.errors import BadFile, BadInput
from atelier.pipeline.decoding import not_finite
from atelier.request.infotext import read, to_request
from atelier.request.infotext.request import without_effect
from atelier.runtime import adapting
from atelier.runtime.engine import Engine
from pipeline_support import engine_on, request

KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
XL_KEY = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
TWICE = {"hires_upscale": 1, "hires_checkpoint": "xl", "hires_upscaler": "Lanczos", "hires_steps": 1, "steps": 1}


def lora(path: Path, key: str, out: int, into: int, *, value: float = 1.0) -> None:
    path.parent.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(3)
    tensors = {
        f"{key}.lora_up.weight": value * torch.randn(out, 4, generator=generator),
        f"{key}.lora_down.weight": torch.randn(4, into, generator=generator),
    }
    save_file(tensors, path, {"format": "pt"})


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    models = tmp_path_factory.mktemp("models")
    tiny.folder(models / "tiny")
    write_ldm(tiny_sd.sdxl(), models / "xl.safetensors")
    lora(models / "lora" / "one.safetensors", KEY, 32, 32)
    lora(models / "lora" / "a, b.safetensors", KEY, 32, 32)
    lora(models / "lora" / "both.safetensors", XL_KEY, 64, 48)
    lora(models / "lora" / "broken.safetensors", KEY, 32, 32, value=float("nan"))
    folder = models / "embeddings"
    folder.mkdir()
    generator = torch.Generator().manual_seed(4)
    vectors = {"clip_l": torch.randn(1, 32, generator=generator), "clip_g": torch.randn(1, 48, generator=generator)}
    save_file(vectors, folder / "pair.safetensors")
    save_file({"emb_params": torch.randn(1, 32, generator=generator)}, folder / "single.safetensors")
    return engine_on(models / "tiny")


def image(engine: Engine, prompt: str, **fields: object) -> bytes:
    (made,) = engine.generate(request(prompt=prompt, **TWICE, **fields))
    return made.image.tobytes()


def test_each_pass_has_the_networks_of_its_model(engine: Engine):
    own = image(engine, "a red cat<lora:one>", hires_prompt="a red cat<lora:both>")
    assert own != image(engine, "a red cat<lora:one>", hires_prompt="a red cat")
    assert own != image(engine, "a red cat", hires_prompt="a red cat<lora:both>")


def test_a_network_for_the_first_model_alone_is_refused_before_anything_is_generated(engine: Engine):
    with pytest.raises(BadInput) as caught:
        engine.resolve(request(prompt="a red cat<lora:one>", **TWICE))
    assert str(caught.value).endswith(
        f"one.safetensors: has no layer that xl has (2 tensors ({KEY}.lora_dow..., {KEY}.lora_up....)): it is for "
        "another model; a hires_prompt without it spares the second pass: take <lora:one> out, or generate without it "
        "with --lenient"
    )


def test_an_embedding_acts_in_the_pass_whose_model_it_is_for(engine: Engine):
    warnings: list[str] = []
    resolved = engine.resolve(request(prompt="a single pair", **TWICE), warnings.append)
    assert sorted(own.name for own in resolved.inversions) == ["pair", "single"]
    assert warnings == [
        "embedding 'single' has vectors 32 wide, and xl needs 32 and 48; its name is read as text",
    ]
    plain = image(engine, "a red cat", hires_prompt="a cat")
    assert image(engine, "a red cat", hires_prompt="a pair") != plain


def test_a_tag_in_a_negative_prompt_is_told_of(engine: Engine):
    warnings: list[str] = []
    engine.resolve(request(negative_prompt="ugly<lora:one:1>"), warnings.append)
    assert warnings == ["<lora:one:1> has no effect in a negative prompt: put it into the prompt"]


def test_a_network_of_no_numbers_is_named(engine: Engine):
    with pytest.raises(BadFile) as caught:
        engine.generate(request(prompt="a red cat<lora:one:0.3><lora:broken:0.5>", steps=1))
    assert str(caught.value).endswith(
        "broken.safetensors: makes 1 tensor (down.0.attentions.0.blocks.0.attn2.to_k.weight) of the unet NaN or "
        "infinite at strength 0.5: it is damaged, or too strong"
    )


def test_damaged_weights_are_named_and_sound_ones_not_blamed():
    network = nn.Linear(2, 2)
    ways = "lower cfg_scale or the strengths of LoRAs, or look for NaN with `atelier models inspect FILE --check`"
    sound = str(not_finite("x", torch.float32, network))
    assert sound == f"x is not finite, though the network's weights are: {ways}"
    assert "ATELIER_DTYPE=fp32" in str(not_finite("x", torch.float16, network))
    with torch.no_grad():
        network.bias[0] = float("inf")
    for dtype in (torch.float32, torch.float16):
        said = str(not_finite("x", dtype, network))
        assert said == "x is not finite; the model's weights are damaged: 1 tensor (bias); get the file again"


def test_a_name_with_the_marks_of_lists_is_found_again(engine: Engine):
    (made,) = engine.generate(request(prompt="a red cat<lora:a, b:0.5>", steps=1))
    found = read(made.infotext)
    assert (found.get("Lora hashes") or "").startswith("a b: ")
    assert without_effect(found) == ()
    said = to_request(found, {"lora_hashes": "a b: 0123456789ab"})
    warnings: list[str] = []
    engine.resolve(said, warnings.append)
    assert warnings[0].startswith("lora 'a, b': the hash 0123456789ab was asked for; ")


def test_finite_numbers_whose_sum_is_not_are_no_damage():
    large = torch.full((4,), 3e38)
    assert adapting._is_finite(large)
    assert adapting._is_finite(torch.full((9,), 6e4, dtype=torch.float16))
    for bad in ([torch.inf, -torch.inf], [torch.nan], [torch.inf]):
        assert not adapting._is_finite(torch.cat([large, torch.tensor(bad)]))
