"""Recognising, opening and refusing checkpoints; settings; what is said of a model."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.report import report
from atelier.checkpoints.write import Modules, write_diffusers, write_ldm
from atelier.errors import BadFile, BadInput
from atelier.families import sd1
from atelier.families.facts import Facts, LatentFormat, ModelDefaults, PartFacts
from atelier.families.parts import TEXT, UNET, VAE
from atelier.families.shapes import Shapes
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.weights.tokenizer import ClipTokenizer
from weights_support import published

TOKENIZER = ClipTokenizer.from_merges([("c", "a")], positions=6)


def model(**facts: Any) -> Modules:
    torch.manual_seed(1)
    networks = {
        "unet": UNet(UNetSpec(widths=(8, 16), depth=(1, 0), heads=(2, 2), context=8, groups=4, blocks=1)),
        "vae": AutoencoderKL(VaeSpec(widths=(8, 8), groups=4, blocks=1)),
        "text": ClipText(TextSpec(TOKENIZER.size, 8, 1, 2, 8, 6, eos=TOKENIZER.eos)),
    }
    return Modules(sd1.SD1, networks, (TOKENIZER,), Facts(**facts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("folder") / "small"
    write_diffusers(model(size=32), path)
    return path


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("single") / "small.safetensors"
    write_ldm(model(size=32), path)
    return path


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, tmp_path / "small"))


def changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_opening_and_reporting_import_no_torch(single: Path, folder: Path) -> None:
    code = (
        "import sys\n"
        "from atelier.checkpoints.opening import open_checkpoint\n"
        "from atelier.checkpoints.report import report\n"
        f"[report(open_checkpoint(p)) for p in ({str(single)!r}, {str(folder)!r})]\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'tokenizers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_both_layouts_say_the_same(single: Path, folder: Path) -> None:
    one, other = report(open_checkpoint(single)).json(), report(open_checkpoint(folder)).json()
    differ = {key for key in one if one[key] != other[key]}
    assert differ == {"path", "layout", "bytes"}
    assert (one["name"], one["family"], one["dtype"], one["size"]) == ("small", "sd1", "fp32", 32)
    assert one["parameters"] == sum(p.numel() for network in model().networks.values() for p in network.parameters())
    assert open_checkpoint(single).defaults == ModelDefaults("DPM++ 2M", 20, 32, 32, 7.0)


def test_a_published_file_without_metadata_has_the_facts_of_sd15(tmp_path: Path) -> None:
    names = published("sd1_ldm_required")
    tiny = {name: torch.zeros([1] * len(shape)) for name, shape in names.items()}
    path = tmp_path / "v1-5.safetensors"
    save_file(tiny, path)
    found = open_checkpoint(path)
    assert (found.family.name, found.facts, found.size) == ("sd1", Facts(), 512)
    assert (found.latent.scale, found.latent.factor) == (0.18215, 8)
    assert round(found.levels.sigma_max, 4) == 14.6146
    save_file({**tiny, "v_pred": torch.empty(0), "ztsnr": torch.empty(0)}, path)
    found = open_checkpoint(path)
    assert (found.parameterization.name, found.levels.sigma_max > 4000) == ("velocity", True)
    save_file(tiny, path, {"modelspec.prediction_type": "v", "modelspec.resolution": "768x512"})
    assert (open_checkpoint(path).facts.prediction, open_checkpoint(path).size) == ("velocity", 768)
    with pytest.raises(BadFile, match="1 channels, which 32 groups do not divide"):
        open_checkpoint(path).load(UNET)


@pytest.mark.parametrize(
    "spec",
    [
        "{",
        "[]",
        '{"prediction": "v"}',
        '{"prediction": "flow"}',
        '{"parts": {"unet": {"heads": [0]}}}',
        '{"parts": {"unet": {"more": 1}}}',
        '{"parts": {"unet": 1}}',
        '{"parts": 1}',
        '{"more": 1}',
        '{"size": 1.5}',
    ],
)
def test_metadata_that_lies_is_refused(spec: str, single: Path, tmp_path: Path) -> None:
    save_file(load_file(single), tmp_path / "a.safetensors", {"atelier.spec": spec})
    with pytest.raises(BadFile) as caught:
        open_checkpoint(tmp_path / "a.safetensors")
    assert str(caught.value).isprintable()


def test_facts_survive_json() -> None:
    facts = Facts(prediction="velocity", size=64, latent_shift=-0.1, zero_snr=True)
    facts = replace(facts, cfg_scale=3.5, trailing=True, steps=4).knowing("unet", PartFacts(heads=(1, 2), groups=4))
    facts = facts.knowing("text", PartFacts(heads=(3,), act="gelu", eos=7))
    facts = facts.knowing("other", PartFacts(head_width=64, size_width=8))
    assert Facts.from_json(facts.to_json(), Path("file")) == facts
    assert Facts.from_json("{}", Path("file")) == Facts()


def test_the_scale_a_model_was_made_for_is_its_default(tmp_path: Path) -> None:
    write_diffusers(model(size=32, cfg_scale=2.5), tmp_path / "a")
    write_ldm(open_checkpoint(tmp_path / "a"), tmp_path / "b.safetensors")
    for path in (tmp_path / "a", tmp_path / "b.safetensors"):
        assert open_checkpoint(path).defaults.cfg_scale == 2.5
    changed(tmp_path / "a" / "model_index.json", _cfg_scale=None)
    assert open_checkpoint(tmp_path / "a").defaults.cfg_scale == 7.0
    for wrong in (-1, 101, "3"):
        changed(tmp_path / "a" / "model_index.json", _cfg_scale=wrong)
        with pytest.raises(BadFile, match=r"model_index\.json: says _cfg_scale is"):
            open_checkpoint(tmp_path / "a")


def test_latents_are_scaled_and_back() -> None:
    form, z = LatentFormat(scale=1.5, shift=0.25, factor=8, channels=4), torch.randn(3)
    assert torch.allclose(form.unscaled(form.scaled(z)), z)
    assert torch.allclose(form.scaled(torch.tensor([0.25, 1.25])), torch.tensor([0.0, 1.5]))


@pytest.mark.parametrize("part", ["model.diffusion_model.", "first_stage_model.", "cond_stage_model."])
def test_a_missing_part_is_named(part: str, single: Path, tmp_path: Path) -> None:
    save_file({n: t for n, t in load_file(single).items() if not n.startswith(part)}, tmp_path / "a.safetensors")
    with pytest.raises(BadFile) as caught:
        open_checkpoint(tmp_path / "a.safetensors")
    assert str(caught.value).isprintable()
    assert "a.safetensors" in str(caught.value)


def test_missing_surplus_and_misshapen_tensors_are_named(single: Path, tmp_path: Path) -> None:
    tensors, path = load_file(single), tmp_path / "a.safetensors"
    metadata = {"atelier.spec": open_checkpoint(single).facts.to_json()}
    conv = "model.diffusion_model.middle_block.0.in_layers.2.weight"

    def opened(changes: dict[str, torch.Tensor | None]) -> Any:
        found = {**tensors, **changes}
        save_file({name: tensor for name, tensor in found.items() if tensor is not None}, path, metadata)
        return open_checkpoint(path)

    with pytest.raises(BadFile, match=rf"lacks 1 tensor \({conv}\)"):
        opened({conv: None}).load(UNET)
    with pytest.raises(BadFile, match=r"has 1 tensor \(first_stage_model\.extra\) that no module takes"):
        opened({"first_stage_model.extra": torch.ones(1)}).load(VAE)
    with pytest.raises(BadFile, match=r"middle\.resnet1\.conv1\.weight is 16x16x1x1 where 16x16x3x3 is needed"):
        opened({conv: torch.ones(16, 16, 1, 1)}).load(UNET)
    for alien, shape in {"surprise.weight": (1,), "control_model.input_hint": (2, 2), "lora_unet_x.alpha": ()}.items():
        with pytest.raises(BadFile, match=rf"has 1 tensor \({alien}\) beside the parts of a"):
            opened({alien: torch.ones(shape)})
    found = opened({"model_ema.decay": torch.ones(()), "alphas_cumprod": torch.ones(9)})
    assert found.ignored == ("alphas_cumprod", "model_ema.decay")
    assert found.load(UNET).spec == model().spec(UNET)
    assert found.surplus == ()


def test_what_a_training_keeps_beside_its_networks_is_left_unread(single: Path, tmp_path: Path) -> None:
    kept = {
        "global_step": torch.tensor(7),
        "epoch": torch.ones(1),
        "embedding_manager.string_to_param_dict.*": torch.ones(2, 8),
        "embedding_manager.initial_embeddings.weight": torch.ones(2, 8),
        "optimizer.state.0.exp_avg": torch.ones(3, 3),
        "optimizer_states.0.weight": torch.ones(3, 3),
    }
    metadata = {"atelier.spec": open_checkpoint(single).facts.to_json()}
    save_file({**load_file(single), **kept}, tmp_path / "a.safetensors", metadata)
    found = open_checkpoint(tmp_path / "a.safetensors")
    assert found.surplus == found.ignored == tuple(sorted(kept))
    assert found.load(UNET).spec == model().spec(UNET)


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_settings_may_begin_with_a_byte_order_mark(name: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "marked")
    marked = tmp_path / "marked" / name
    marked.write_bytes(b"\xef\xbb\xbf" + marked.read_bytes())
    found, plain = open_checkpoint(tmp_path / "marked"), open_checkpoint(folder)
    assert found.facts == plain.facts
    ids = [[tokenizer.encode("a cat") for tokenizer in model.tokenizers] for model in (found, plain)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("kind", [["StableDiffusionPipeline"], {"a": 1}, None, 5])
def test_an_index_of_another_kind_is_one_line(kind: object, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(BadFile, match="of a family that cannot be read yet"):
        open_checkpoint(tmp_path)


def test_an_index_of_shards_may_begin_with_a_byte_order_mark(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "marked")
    weights = tmp_path / "marked" / "unet" / "diffusion_pytorch_model.safetensors"
    shard = weights.rename(weights.with_name("shard.safetensors"))
    placed = json.dumps({"weight_map": dict.fromkeys(load_file(shard), shard.name)})
    weights.with_name(f"{weights.name}.index.json").write_text(placed, encoding="utf-8-sig")
    assert open_checkpoint(tmp_path / "marked").spec(UNET) == open_checkpoint(folder).spec(UNET)


def test_a_tokenizer_larger_than_the_text_encoder_is_refused(single: Path, tmp_path: Path) -> None:
    save_file(load_file(single), tmp_path / "a.safetensors")
    with pytest.raises(BadFile, match="tokenizer of 49408 tokens and a text encoder for 515"):
        _ = open_checkpoint(tmp_path / "a.safetensors").tokenizers


def _remove(name: str) -> Callable[[Path], None]:
    return lambda place: (place / name).unlink()


def _write(name: str, content: str) -> Callable[[Path], None]:
    return lambda place: _written(place / name, content)


def _written(path: Path, content: str) -> None:
    path.write_text(content)


def _set(name: str, **values: object) -> Callable[[Path], None]:
    return lambda place: changed(place / name, **values)


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "no index": (_remove("model_index.json"), "a diffusers folder has a model_index.json"),
    "broken index": (_write("model_index.json", "{"), "not valid JSON"),
    "another pipeline": (_set("model_index.json", _class_name="FluxPipeline"), "holds FluxPipeline"),
    "SD 2": (_set("unet/config.json", cross_attention_dim=1024), "cross_attention_dim is 1024, but the weights have 8"),
    "no settings": (_remove("vae/config.json"), "config.json: does not exist"),
    "no weights": (_remove("unet/diffusion_pytorch_model.safetensors"), "unet: holds no weights"),
    "text": (_write("text_encoder/model.safetensors", "xxxxxxxxxxxxxxxx"), "is text, not weights"),
    "an EDM scheduler": (_set("scheduler/scheduler_config.json", _class_name="EDMEulerScheduler"), "_class_name is"),
    "another activation": (_set("unet/config.json", act_fn="mish"), 'act_fn is "mish"; "silu" or "swish"'),
    "class embedding": (_set("unet/config.json", class_embed_type="timestep"), "class_embed_type"),
    "widths that differ": (
        _set("unet/config.json", block_out_channels=[320, 640]),
        r"block_out_channels is \[320, 640\], but the weights have \[8, 16\]",
    ),
    "input that differs": (_set("unet/config.json", in_channels=9), "in_channels is 9, but the weights have 4"),
    "a vocabulary that differs": (_set("text_encoder/config.json", vocab_size=7), "vocab_size is 7, but"),
    "heads of text": (_set("unet/config.json", attention_head_dim="eight"), "attention_head_dim is .eight.; whole"),
    "an unknown prediction": (_set("scheduler/scheduler_config.json", prediction_type="sample"), "prediction_type"),
    "an unknown schedule": (_set("scheduler/scheduler_config.json", beta_schedule="x"), 'beta_schedule is "x"'),
    "trained betas": (_set("scheduler/scheduler_config.json", trained_betas=[0.1]), "trained_betas"),
    "a scale of zero": (_set("vae/config.json", scaling_factor=0), "scaling_factor is 0"),
    "a number beyond all": (_set("vae/config.json", scaling_factor=10**400), "scaling_factor is 1000"),
    "a true number": (_set("vae/config.json", norm_num_groups=True), "norm_num_groups is true"),
    "an unknown text activation": (_set("text_encoder/config.json", hidden_act="relu"), "hidden_act"),
}


@pytest.mark.parametrize(("spoil", "problem"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_folder_gives_one_line(spoil: Callable[[Path], None], problem: str, copied: Path) -> None:
    spoil(copied)
    with pytest.raises(BadFile, match=problem) as caught:
        open_checkpoint(copied)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("betas", [{"beta_start": 0.9, "beta_end": 0.1}, {"num_train_timesteps": 1}, {"beta_end": 1.5}])
def test_an_impossible_schedule_names_the_model_and_its_numbers(copied: Path, betas: dict[str, float]) -> None:
    changed(copied / "scheduler" / "scheduler_config.json", **betas)
    model = open_checkpoint(copied)
    with pytest.raises(BadFile, match="its noise schedule is impossible") as caught:
        _ = model.levels
    assert caught.value.path == str(copied)
    for value in betas.values():
        assert f"{value:g}" in str(caught.value)


def test_variants_are_chosen_by_name(copied: Path) -> None:
    name = "diffusion_pytorch_model"
    lacking = rf"variant fp16: {name}\.fp16\.safetensors is not there; {name}\.safetensors is"
    with pytest.raises(BadFile, match=lacking):
        open_checkpoint(copied, variant="fp16")
    for file in list(copied.rglob("*.safetensors")):
        save_file({name: t.half() for name, t in load_file(file).items()}, file.with_suffix(".fp16.safetensors"))
    assert (open_checkpoint(copied).dtype, open_checkpoint(copied, variant="fp16").dtype) == ("fp32", "fp16")


def test_code_in_a_folder_is_never_imported(copied: Path) -> None:
    (copied / "unet" / "custom.py").write_text("raise SystemExit")
    changed(copied / "unet" / "config.json", auto_map={"AutoModel": "custom.Net"})
    changed(copied / "model_index.json", custom_pipeline="custom")
    assert open_checkpoint(copied).load(UNET).spec == model().spec(UNET)


def test_a_layout_that_diffusers_cannot_say_is_refused(tmp_path: Path) -> None:
    odd = model()
    spec = UNetSpec(widths=(8, 16), depth=(1, 1), mid_depth=2, heads=(2, 2), context=8, groups=4, blocks=1)
    with pytest.raises(BadInput, match="write the ldm layout"):
        write_diffusers(Modules(sd1.SD1, {**odd.networks, "unet": UNet(spec)}, (TOKENIZER,), Facts()), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_the_hash_of_a_folder_is_over_the_weights_of_every_part(folder: Path) -> None:
    files = ("text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors")
    files += ("vae/diffusion_pytorch_model.safetensors",)
    lines = "".join(f"{name} {hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n" for name in files)
    assert open_checkpoint(folder).sha256() == hashlib.sha256(lines.encode()).hexdigest()


FOREIGN: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "SD 3": (
        {
            "model.diffusion_model.joint_blocks.0.x": (1,),
            "model.diffusion_model.x_embedder.proj.weight": (1536, 16, 2, 2),
        },
        "a denoiser alone of Stable Diffusion 3: name what it lacks with --vae FILE and --text-encoder FILE",
    ),
    "Flux": (
        {"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": (9, 3), "vae.x": (1,)},
        r"a checkpoint of Flux \(schnell\), which cannot be read yet",
    ),
    "LoRA": ({"lora_unet_down_blocks_0.lora_down.weight": (4, 8)}, "is a LoRA, and no whole checkpoint"),
    "PEFT": ({"unet.down_blocks.0.attentions.0.to_q.lora_A.weight": (4, 320)}, "is a LoRA, and no whole checkpoint"),
    "ControlNet": ({"control_model.input_hint_block.0.weight": (16, 3, 3, 3)}, "is a ControlNet"),
    "autoencoder": (
        {
            "encoder.conv_in.weight": (8, 3, 3, 3),
            "decoder.conv_in.weight": (8, 4, 3, 3),
            "encoder.down.0.block.0.x": (1,),
        },
        "is an autoencoder alone",
    ),
    "another": ({"weight": (1,)}, "no checkpoint of a known family"),
    "nothing": ({}, "holds no tensors"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_other_files_are_recognised(name: str, tmp_path: Path) -> None:
    shapes, what = FOREIGN[name]
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, tmp_path / "a.safetensors")
    with pytest.raises(BadFile, match=what):
        open_checkpoint(tmp_path / "a.safetensors")


def test_shapes_that_cannot_be_are_refused() -> None:
    shapes = Shapes("file", "ldm", {"a": (0, 4), "b": (4,)})
    for name, problem in {"a": "impossible shape", "b": "impossible shape", "c": "file: lacks c"}.items():
        with pytest.raises(BadFile, match=problem):
            shapes.shape(name, 2)
    with pytest.raises(BadFile, match="lacks …d"):
        shapes.ending("d")


@pytest.mark.parametrize(
    ("channels", "pipeline"), [(9, "StableDiffusionInpaintPipeline"), (8, "StableDiffusionInstructPix2PixPipeline")]
)
def test_models_that_work_on_a_picture_keep_their_pipeline(channels: int, pipeline: str, tmp_path: Path) -> None:
    write_diffusers(tiny.modules(in_channels=channels), tmp_path / "a")
    assert json.loads((tmp_path / "a" / "model_index.json").read_text())["_class_name"] == pipeline
    assert open_checkpoint(tmp_path / "a").spec(UNET).in_channels == channels


def test_a_model_of_a_pipeline_that_is_not_known_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"7 channels for a latent of 4.*write one file"):
        write_diffusers(tiny.modules(in_channels=7), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_projection_of_one_number_is_named(tmp_path: Path) -> None:
    write_ldm(model(), tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    tensors["cond_stage_model.transformer.text_projection.weight"] = torch.tensor(1.0)
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(BadFile, match="text_projection"):
        _ = open_checkpoint(tmp_path / "a.safetensors").spec(TEXT)


def test_a_model_without_a_signal_at_the_last_level_has_its_own_defaults() -> None:
    assert sd1.defaults(64, Facts(zero_snr=True)) == ModelDefaults("Euler", 20, 64, 64, 5.0)
    assert sd1.defaults(64, Facts()) == ModelDefaults("DPM++ 2M", 20, 64, 64, 7.0)
