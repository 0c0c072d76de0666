"""A small Stable Diffusion 3 against diffusers' own pipeline: text encoders, transformer, autoencoder, four steps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_sd3
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.text import encode, text_encoder
from atelier.checkpoints.write import write_diffusers, write_ldm
from atelier.errors import BadFile, BadInput
from atelier.families.facts import ModelDefaults
from atelier.families.parts.mmdit import MMDIT
from atelier.families.sd3 import UNUSED
from atelier.models.vae import AutoencoderKL
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine, GeneratedImage
from atelier.runtime.library import Library
from atelier.weights.archive import open_file
from atelier.weights.hashes import HashCache
from atelier.weights.names.t5 import TIED
from weights_support import assert_close

PROMPT, NEGATIVE, SEED, STEPS, SCALE = "a red cat, cats", "a dog", 11, 4, 5.0
WITHOUT = {"all": (), "without T5": ("t5",)}


def _folder(place: Path, missing: tuple[str, ...] = ()) -> Path:
    made = tiny_sd3.modules(tuple(name for name in tiny_sd3.ALL if name not in missing))
    write_diffusers(made, place)
    return place


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("sd3")
    return {case: _folder(place / case.replace(" ", "-"), missing) for case, missing in WITHOUT.items()}


@pytest.fixture(scope="module")
def pipelines(folders: dict[str, Path]) -> dict[str, Any]:
    from diffusers import StableDiffusion3Pipeline

    made: dict[str, Any] = {}
    for case, folder in folders.items():
        absent = {"text_encoder_3": None, "tokenizer_3": None} if WITHOUT[case] else {}
        made[case] = StableDiffusion3Pipeline.from_pretrained(folder, **absent)
        made[case].set_progress_bar_config(disable=True)
    return made


def _engine(place: Path) -> Engine:
    device = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=1)
    return Engine(device, Library((place,)), HashCache(), version="1")


def _generated(path: Path, **asked: Any) -> GeneratedImage:
    settings: dict[str, Any] = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": SEED, "cfg_scale": SCALE}
    settings |= {"steps": STEPS, "rng": "cpu", "sampler": "Euler", "scheduler": "Uniform"}
    return _engine(path.parent).generate(request_of({"model": str(path), **settings, **asked}))[0]


def _theirs(pipeline: Any, output: str, steps: int = STEPS, **more: Any) -> Any:
    return pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=steps,
        guidance_scale=SCALE,
        generator=torch.Generator().manual_seed(SEED),
        height=tiny_sd3.SIZE,
        width=tiny_sd3.SIZE,
        max_sequence_length=_length(pipeline),
        output_type=output,
        **more,
    ).images[0]


def _length(pipeline: Any) -> int:
    """Of T5's part of the states; where there is none, as many zeros as ours."""
    return 256 if pipeline.text_encoder_3 is None else 9


@pytest.mark.parametrize("case", WITHOUT)
def test_text_states_are_those_of_diffusers(case: str, folders: dict[str, Path], pipelines: dict[str, Any]) -> None:
    pipeline = pipelines[case]
    texts = ["a cat", "a red cat, cats and a dog that is red, a cat"]
    with torch.no_grad():
        states, _, pooled, _ = pipeline.encode_prompt(
            texts, None, None, do_classifier_free_guidance=False, max_sequence_length=_length(pipeline)
        )
        ours = encode(text_encoder(open_checkpoint(folders[case])), texts)
    assert ours.pooled is not None
    assert_close(ours.tokens, states)
    assert_close(ours.pooled, pooled)


@pytest.mark.parametrize("case", WITHOUT)
def test_four_steps_are_those_of_diffusers(
    case: str, folders: dict[str, Path], pipelines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latents that are decoded, scaled and shifted, and the image."""
    seen: list[torch.Tensor] = []
    decode = AutoencoderKL.decode

    def spy(self: AutoencoderKL, latent: torch.Tensor, *given: Any) -> torch.Tensor:
        seen.append(latent)
        return decode(self, latent, *given)

    monkeypatch.setattr(AutoencoderKL, "decode", spy)
    ours = _generated(folders[case])
    latents = _theirs(pipelines[case], "latent")
    assert_close(seen[0][0], latents / 1.5305 + 0.0609)
    image = np.asarray(_theirs(pipelines[case], "pil"), np.int16)
    assert np.abs(np.asarray(ours.image, np.int16) - image).max() <= 1
    assert image.std() > 5


def test_skip_layer_guidance_is_that_of_diffusers(
    folders: dict[str, Path], pipelines: dict[str, Any], tmp_path: Path
) -> None:
    """Blocks 7 to 9, at the second of six steps: the first is before its part of the way, the third behind."""
    from diffusers import SD3Transformer2DModel

    write_diffusers(tiny_sd3.modules(depth=11), tmp_path / "deep")
    pipeline = pipelines["all"]
    shallow, pipeline.transformer = (
        pipeline.transformer,
        SD3Transformer2DModel.from_pretrained(tmp_path / "deep" / "transformer"),
    )
    skipped: dict[str, Any] = {"skip_guidance_layers": [7, 8, 9], "skip_layer_guidance_scale": 2.5}
    try:
        plain, theirs = (np.asarray(_theirs(pipeline, "pil", 6, **more), np.int16) for more in ({}, skipped))
    finally:
        pipeline.transformer = shallow
    ours = np.asarray(_generated(tmp_path / "deep", steps=6, slg_scale=2.5).image, np.int16)
    assert np.abs(ours - theirs).max() <= 1
    assert np.abs(ours - plain).max() > 8
    assert np.abs(np.asarray(_generated(tmp_path / "deep", steps=6).image, np.int16) - plain).max() <= 1
    with pytest.raises(BadInput, match="SLG needs a transformer, which all has not: leave out slg_scale"):
        _generated(folders["all"], slg_scale=1)


def test_one_file_and_a_folder_are_the_same_model(folders: dict[str, Path], tmp_path: Path) -> None:
    """Bit for bit there and back, and the same image from both."""
    single, again = tmp_path / "a.safetensors", tmp_path / "again"
    write_ldm(open_checkpoint(folders["all"]), single)
    names = load_file(single)
    assert "text_encoders.clip_l.transformer.text_projection.weight" not in names
    assert names["text_encoders.clip_g.transformer.text_projection.weight"].shape == (tiny_sd3.G, tiny_sd3.G)
    assert names["text_encoders.t5xxl.transformer.shared.weight"].shape == (128, tiny_sd3.T)
    assert names["model.diffusion_model.joint_blocks.0.x_block.attn2.qkv.weight"].shape == (96, 32)
    write_diffusers(open_checkpoint(single), again)
    for file in sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file()):
        assert (again / file).read_bytes() == (folders["all"] / file).read_bytes(), file
    one, other = (np.asarray(_generated(path).image, np.int16) for path in (single, folders["all"]))
    assert np.abs(one - other).max() <= 1, "nothing but how the tensors lie in memory differs"


def test_a_folder_says_what_published_ones_say(folders: dict[str, Path]) -> None:
    clip, words = ["transformers", "CLIPTextModelWithProjection"], ["transformers", "CLIPTokenizer"]
    index = json.loads((folders["all"] / "model_index.json").read_text())
    assert {key: value for key, value in index.items() if value != [None, None] and key != "_diffusers_version"} == {
        "_class_name": "StableDiffusion3Pipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": clip,
        "text_encoder_2": clip,
        "text_encoder_3": ["transformers", "T5EncoderModel"],
        "tokenizer": words,
        "tokenizer_2": words,
        "tokenizer_3": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    scheduler = json.loads((folders["all"] / "scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["_class_name"], scheduler["shift"]) == ("FlowMatchEulerDiscreteScheduler", 3.0)
    vae = json.loads((folders["all"] / "vae" / "config.json").read_text())
    assert (vae["scaling_factor"], vae["shift_factor"], vae["use_quant_conv"]) == (1.5305, 0.0609, False)
    without = json.loads((folders["without T5"] / "model_index.json").read_text())
    assert without["text_encoder_3"] == without["tokenizer_3"] == [None, None]


LIES = {
    "heads": ("transformer", {"num_attention_heads": 5}, "has 32 channels, which 5 heads do not divide"),
    "depth": ("transformer", {"num_layers": 24}, "says num_layers is 24, but the weights have 3"),
    "norm": ("transformer", {"qk_norm": None}, "says qk_norm is null"),
    "context": ("transformer", {"joint_attention_dim": 4096}, "but the weights have 80"),
    "pooled": ("transformer", {"pooled_projection_dim": 1}, "but the weights have 64"),
    "T5's gate": ("text_encoder_3", {"feed_forward_proj": "relu"}, 'says feed_forward_proj is "relu"'),
    "T5's depth": ("text_encoder_3", {"num_layers": 24}, "says num_layers is 24, but the weights have 2"),
    "T5's width": ("text_encoder_3", {"d_model": 4096}, "says d_model is 4096, but the weights have 80"),
    "levels": ("scheduler", {"use_dynamic_shifting": True}, "says use_dynamic_shifting is true"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_configuration_that_contradicts_the_weights_is_refused(
    lie: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    part, changes, said = LIES[lie]
    own = shutil.copytree(folders["all"], tmp_path / "own")
    path = own / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(BadFile, match=re.escape(said)):
        open_checkpoint(own).spec(MMDIT)


def test_a_projection_of_the_first_text_encoder(folders: dict[str, Path], tmp_path: Path) -> None:
    """A single file has no place for one that changes something; one that lies there all the same is not read."""
    made = tiny_sd3.modules()
    write_ldm(made, tmp_path / "plain.safetensors")
    tied, places = (
        f"text_encoders.t5xxl.transformer.{TIED}",
        "text_encoders.clip_l.transformer.text_model.embeddings.position_ids",
    )
    odd = {UNUSED: torch.randn(tiny_sd3.L, tiny_sd3.L), tied: torch.ones(1), places: torch.ones(1)}
    header = open_file(tmp_path / "plain.safetensors").metadata
    save_file(load_file(tmp_path / "plain.safetensors") | odd, tmp_path / "odd.safetensors", dict(header))
    plain, found = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("plain", "odd"))
    assert set(found.ignored) == odd.keys()
    one, other = (encode(text_encoder(model), ["a cat"]).pooled for model in (plain, found))
    assert one is not None
    assert other is not None
    assert torch.allclose(one, other, atol=1e-5)
    changed = made.networks["text"].state_dict()["projection.weight"]
    changed[0, 1] = 0.5
    write_diffusers(made, tmp_path / "folder")
    with pytest.raises(
        BadInput, match=r"text_projection\.weight: changes the states, and this layout has no place for it"
    ):
        write_ldm(open_checkpoint(tmp_path / "folder"), tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


def test_weights_of_words_act_on_every_text_encoder(folders: dict[str, Path]) -> None:
    """On the word's own positions: CLIP's are behind a start mark, T5's are not."""
    from atelier.pipeline.conditioning import encode as of_groups

    encoder = text_encoder(open_checkpoint(folders["all"]))
    plain, heavy = (
        of_groups([(text,)], encoder, "No norm", 1)[(text,)][text].tokens for text in ("a cat", "a (cat:2)")
    )
    ratio = (heavy / plain)[:, : tiny_sd3.L].nanmean(-1)
    assert [round(float(own), 3) for own in ratio[:4]] == [1.0, 1.0, 2.0, 1.0]
    assert [round(float(own), 3) for own in (heavy / plain)[12:15].mean(-1)] == [1.0, 2.0, 1.0]


def test_it_generates_with_any_of_its_text_encoders(tmp_path: Path) -> None:
    """Each image another one."""
    images: set[bytes] = set()
    for missing in (("text", "t5"), ("text", "text2"), ("text2",)):
        folder = _folder(tmp_path / "-".join(missing), missing)
        images.add(_generated(folder, steps=1).image.tobytes())
    assert len(images) == 3


@pytest.mark.parametrize(("missing", "silent"), [("text", slice(0, tiny_sd3.L)), ("text2", slice(tiny_sd3.L, 64))])
def test_a_missing_text_encoder_is_zeros(missing: str, silent: slice, tmp_path: Path) -> None:
    states = encode(text_encoder(open_checkpoint(_folder(tmp_path / "a", (missing,)))), ["a cat"])
    whole = encode(text_encoder(open_checkpoint(_folder(tmp_path / "b"))), ["a cat"])
    assert states.pooled is not None
    assert whole.pooled is not None
    other = slice(tiny_sd3.L, 64) if missing == "text" else slice(0, tiny_sd3.L)
    assert states.tokens.shape == whole.tokens.shape == (1, 12 + 9, tiny_sd3.T)
    assert not states.tokens[:, :12, silent].any()
    assert not states.pooled[:, silent].any()
    assert torch.equal(states.tokens[:, :12, other], whole.tokens[:, :12, other])
    assert torch.equal(states.pooled[:, other], whole.pooled[:, other])
    assert torch.equal(states.tokens[:, 12:], whole.tokens[:, 12:])
    assert whole.tokens[:, :12, 64:].count_nonzero() == 0


def test_what_it_cannot_be_sampled_with_is_refused(folders: dict[str, Path]) -> None:
    """A transformer has no edges that could meet, and no middle; a flow no table; its places are numbered."""
    refused: dict[str, tuple[dict[str, Any], str]] = {
        "tiling": ({"tile": "x"}, "tile needs a U-Net, which all has not: leave it out"),
        "PAG": ({"pag_scale": 3}, "PAG needs a U-Net, which all has not: leave out pag_scale"),
        "sampler": ({"sampler": "DDIM", "scheduler": None}, "cannot sample flow models such as Stable Diffusion 3"),
        "size": ({"width": 256, "steps": 1}, "the latent has 32x8 positions, and this model knows 24 along a side"),
    }
    for asked, said in refused.values():
        with pytest.raises(BadInput, match=said):
            _generated(folders["all"], **asked)


def test_a_file_without_any_text_encoder_says_so(tmp_path: Path) -> None:
    write_ldm(tiny_sd3.modules(()), tmp_path / "bare.safetensors")
    bare = open_checkpoint(tmp_path / "bare.safetensors")
    assert (bare.family.name, bare.towers) == ("sd3", ())
    with pytest.raises(BadFile, match="has no text encoder, and no prompt can be read without"):
        text_encoder(bare)


def test_the_tokenizer_of_t5_lies_in_the_file_or_beside_it(tmp_path: Path) -> None:
    """Published files have none."""
    write_ldm(tiny_sd3.modules(("t5",)), tmp_path / "own.safetensors")
    assert open_checkpoint(tmp_path / "own.safetensors").tokenizers[0].same_as(tiny_sd3.t5_words())
    save_file(load_file(tmp_path / "own.safetensors"), tmp_path / "published.safetensors")
    published = open_checkpoint(tmp_path / "published.safetensors")
    with pytest.raises(BadFile, match=r"published\.safetensors: has a T5 text encoder, but no tokenizer for it: put"):
        text_encoder(published)
    tiny_sd3.t5_words().save(tmp_path / "tokenizer_3")
    assert published.tokenizers[0].same_as(tiny_sd3.t5_words())


def test_defaults_are_those_of_the_model_cards(tmp_path: Path) -> None:
    """Turbo was made for four steps without guidance; nothing but its name says so, until it is written again."""
    write_ldm(tiny_sd3.modules(("text",)), tmp_path / "own.safetensors")
    found: dict[str, Checkpoint] = {}
    for name in ("sd3.5_large", "sd3.5_large_turbo"):
        save_file(load_file(tmp_path / "own.safetensors"), tmp_path / f"{name}.safetensors")
        found[name] = open_checkpoint(tmp_path / f"{name}.safetensors")
    large, turbo = found.values()
    assert large.defaults == ModelDefaults("Euler", 28, 1024, 1024, 4.5)
    assert turbo.defaults == ModelDefaults("Euler", 4, 1024, 1024, 1.0)
    assert (large.facts.latent_scale, large.facts.latent_shift, large.facts.flow_shift) == (1.5305, 0.0609, 3.0)
    assert float(large.levels.sigma(torch.tensor(500.0))) == 0.75
    small = open_checkpoint(write_named(tmp_path, "any"))
    assert small.defaults.steps == 28
    sampling = _engine(tmp_path).resolve(request_of({"prompt": "a cat", "model": str(small.path)})).sampling
    assert (sampling.sampler, sampling.scheduler, sampling.steps) == ("Euler", "Uniform", 28)
    again = open_checkpoint(write_named(tmp_path, "sd3-turbo")).facts
    assert (again.steps, again.cfg_scale) == (4, 1.0)
    write_diffusers(open_checkpoint(tmp_path / "sd3-turbo"), tmp_path / "renamed")
    assert open_checkpoint(tmp_path / "renamed").facts.steps == 4


def write_named(place: Path, name: str) -> Path:
    write_diffusers(tiny_sd3.modules(("text",)), place / name)
    return place / name
