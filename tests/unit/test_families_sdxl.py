"""Stable Diffusion XL and its refiner as users meet them: opened, told sizes, generated with, converted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
import tiny_sd
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.probing import settled
from atelier.checkpoints.write import Modules, write_diffusers, write_ldm
from atelier.cli.app import run
from atelier.errors import BadFile
from atelier.families import sd2, sdxl
from atelier.families.facts import Facts, ModelDefaults, PartFacts
from atelier.families.parts import UNET, unet
from atelier.families.parts.openclip import CLIP_H
from atelier.families.shapes import Shapes
from atelier.models.clip import ClipText
from atelier.models.unet import UNet, UNetSpec
from atelier.nn.ports import NOTHING, Conditioning, Ports
from atelier.runtime.engine import Engine
from atelier.weights.names.unet import names
from pipeline_support import TOGETHER, Lending, engine_on, happened, planned, request

NARROW = 1024
"""Width of the text encoder of Stable Diffusion 2.x."""
MODELS = {"sdxl": tiny_sd.sdxl, "sdxl-refiner": tiny_sd.refiner, "sd2": tiny_sd.sd2}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = tmp_path_factory.mktemp("shelf")
    for name, make in MODELS.items():
        write_ldm(make(), shelf / f"{name}.safetensors")
    return shelf


@pytest.fixture(scope="module")
def engine(shelf: Path) -> Engine:
    return engine_on(shelf / "any", device=TOGETHER, budget=2**40)


@dataclass
class Told:
    """A network that remembers what it was told, and answers 0."""

    conds: list[Conditioning] = field(default_factory=list[Conditioning])
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.bfloat16

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning, ports: Ports = NOTHING) -> Tensor:
        self.conds.append(cond)
        return torch.zeros_like(x)

    def alone(self, _: object) -> Told:
        return self


def told(engine: Engine, **fields: object) -> list[Conditioning]:
    """What the network is told in the calls of a request."""
    net, stages = Told(), planned(engine, max_batch=None, **fields)
    happened(stages, Lending(engine.resources, {"denoiser": net.alone}))
    return net.conds


def test_each_pass_tells_its_own_size(engine: Engine) -> None:
    """Sizes stay float32: 1500 is no number of bfloat16, in which this network computes."""
    fields = {"model": "sdxl", "negative_prompt": "dog", "width": 72, "height": 64, "steps": 1, "hires_upscale": 2.0}
    first, second = told(engine, **fields, denoising_strength=1.0)
    assert first.sizes is not None
    assert second.sizes is not None
    assert first.sizes.dtype == torch.float32
    assert first.sizes.tolist() == [[64, 72, 0, 0, 64, 72]] * 2
    assert second.sizes.tolist() == [[128, 144, 0, 0, 128, 144]] * 2
    assert first.pooled is not None
    assert first.pooled.dtype == first.tokens.dtype == torch.bfloat16


def test_a_refiner_is_told_a_score_for_each_prompt(engine: Engine) -> None:
    """The same words as prompt and as negative prompt are told apart; the negative prompt's rows come first."""
    (cond,) = told(engine, model="sdxl-refiner", prompt="a cat", negative_prompt="a cat", steps=1, batch_size=2)
    assert cond.sizes is not None
    assert cond.sizes.tolist() == [[64, 64, 0, 0, 2.5]] * 2 + [[64, 64, 0, 0, 6.0]] * 2
    assert cond.pooled is not None
    assert bool((cond.pooled == cond.pooled[0]).all())


@pytest.mark.parametrize(("negative", "is_silent"), [("", True), (" ", False), ("[dog:0.5]", False), ("cat", False)])
def test_a_negative_prompt_without_words_is_no_text_at_all(negative: str, is_silent: bool, engine: Engine) -> None:
    """A prompt without words is encoded; so is a negative prompt that gets words later."""
    first = told(engine, model="sdxl", prompt="", negative_prompt=negative, steps=4, cfg_scale=5.0)[0]
    assert (float(first.tokens[0].abs().max()) == 0) is is_silent
    assert float(first.tokens[1].abs().max()) > 0
    assert first.pooled is not None
    assert (float(first.pooled[0].abs().max()) == 0) is is_silent


def test_the_second_condition_reaches_the_image(engine: Engine) -> None:
    """Other words change the pooled state, another size the sizes; each alone changes what the network says."""
    model = open_checkpoint(Path(engine.resources.open(engine.library.find("sdxl").path).path))
    unet = model.load(UNET)
    x, t, tokens = torch.randn(1, 4, 8, 8), torch.tensor([500.0]), torch.randn(1, 3, 80)
    pooled, sizes = torch.randn(1, 48), torch.tensor([[64.0, 64, 0, 0, 64, 64]])
    said = unet(x, t, Conditioning(tokens, pooled, sizes))
    for other in ((pooled + 1, sizes), (pooled, sizes + 32)):
        assert float((unet(x, t, Conditioning(tokens, *other)) - said).abs().max()) > 1e-3
    with pytest.raises(ValueError, match="pooled state"):
        unet(x, t, Conditioning(tokens))


@pytest.mark.parametrize("name", MODELS)
def test_the_command_line_converts_without_a_changed_bit(
    name: str, shelf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """File to folder to file; and the folder generates what the file does, but for the last bits of sums over weights
    that begin elsewhere in memory."""
    single, folder, again = shelf / f"{name}.safetensors", tmp_path / "folder", tmp_path / "again.safetensors"
    for source, target in ((single, folder), (folder, again)):
        assert run(["models", "convert", str(source), str(target)]) == 0
    assert again.read_bytes() == single.read_bytes()
    for number, model in enumerate((single, folder)):
        made = ["generate", "a (red:1.3) cat", "--negative", "dog", "--steps", "2", "--seed", "3"]
        assert run([*made, "--model", str(model), "--output", str(tmp_path / f"{number}.png")]) == 0
    capsys.readouterr()
    first, second = (np.asarray(Image.open(tmp_path / f"{number}.png"), np.int16) for number in (0, 1))
    assert np.abs(first - second).max() <= 1
    assert first.std() > 1


@pytest.mark.parametrize("fields", [{"pag_scale": 2.0}, {"freeu_b1": 1.3}, {"sag_scale": 0.7}, {"perp_neg_scale": 1.0}])
def test_guidances_work_on_it(fields: dict[str, object], engine: Engine) -> None:
    shared = {"model": "sdxl", "steps": 2, "negative_prompt": "a dog"}
    plain, steered = (engine.generate(request(**shared, **own))[0].image.tobytes() for own in ({}, fields))
    assert plain != steered


def test_long_prompts_and_inpainting_work_on_it(tmp_path: Path) -> None:
    path = tmp_path / "inpaint.safetensors"
    write_ldm(tiny_sd.sdxl(in_channels=9), path)
    engine = engine_on(path)
    words = "dog " * 40
    made = engine.generate(request(model="inpaint", prompt=words, negative_prompt="", steps=1))[0].image
    assert len(set(made.tobytes())) > 8
    write_diffusers(tiny_sd.sdxl(in_channels=9), tmp_path / "folder")
    index = json.loads((tmp_path / "folder" / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionXLInpaintPipeline"
    assert open_checkpoint(tmp_path / "folder").family.name == "sdxl"


def spelled(name: str, made: Modules, folder: Path, metadata: dict[str, str] | None = None) -> Path:
    """A file of this name that says nothing of itself but what is given."""
    write_ldm(made, folder / "own.safetensors")
    tensors = load_file(folder / "own.safetensors")
    tensors.pop("v_pred", None)
    save_file(tensors, folder / f"{name}.safetensors", metadata)
    return folder / f"{name}.safetensors"


def test_defaults_are_those_of_its_kind(tmp_path: Path) -> None:
    usual = ModelDefaults("DPM++ 2M", 20, 1024, 1024, 7.0)
    turbo = ModelDefaults("Euler a", 1, 512, 512, 1.0, "Turbo")
    known = {
        "dreamshaper": (None, usual),
        "turbo-merge_v2": (None, usual),
        "sd_xl_turbo_1.0_fp16": (None, turbo),
        "SDXL-Turbo": (None, turbo),
        "other": ({"modelspec.architecture": "stable-diffusion-xl-turbo-v1"}, turbo),
        "sdxl_lightning_4step": (None, ModelDefaults("Euler", 4, 1024, 1024, 1.0, "Turbo")),
        "sdxl_lightning_1step_x0": (None, usual),
    }
    for name, (metadata, expected) in known.items():
        assert open_checkpoint(spelled(name, tiny_sd.sdxl(), tmp_path, metadata)).defaults == expected, name
    assert sdxl.defaults(1024, Facts(zero_snr=True)) == ModelDefaults("Euler", 20, 1024, 1024, 5.0)
    assert sdxl.defaults(1024, Facts(trailing=True)) == usual


def test_turbo_stays_turbo_in_either_layout(tmp_path: Path) -> None:
    """Its scheduler counts down from the last level: that is how a folder says it."""
    write_diffusers(tiny_sd.sdxl(trailing=True), tmp_path / "a")
    assert json.loads((tmp_path / "a/scheduler/scheduler_config.json").read_text())["timestep_spacing"] == "trailing"
    write_ldm(open_checkpoint(tmp_path / "a"), tmp_path / "b.safetensors")
    engine = engine_on(tmp_path / "b.safetensors")
    for path in ("a", "b"):
        resolved = engine.resolve(request(model=path, steps=None))
        sampling = resolved.sampling
        assert (sampling.sampler, sampling.scheduler, sampling.steps) == ("Euler a", "Turbo", 1), path
        assert (resolved.guidance.scale, resolved.size) == (1.0, (64, 64))
    write_diffusers(tiny_sd.sdxl(trailing=True, steps=4, size=1024), tmp_path / "c")
    write_ldm(open_checkpoint(tmp_path / "c"), tmp_path / "d.safetensors")
    for path in ("c", "d.safetensors"):
        assert open_checkpoint(tmp_path / path).defaults == ModelDefaults("Euler", 4, 1024, 1024, 1.0, "Turbo")
    asked = engine.resolve(request(model="a", sampler="DPM++ 2M Karras", steps=None)).sampling
    assert (asked.sampler, asked.scheduler) == ("DPM++ 2M", "Karras")
    assert engine.resolve(request(model="a", scheduler="Automatic")).sampling.scheduler == "Uniform"


def test_marks_of_velocity_are_read_and_written(tmp_path: Path) -> None:
    path = spelled("noob", tiny_sd.sdxl(), tmp_path)
    tensors = load_file(path)
    save_file({**tensors, "v_pred": torch.empty(0), "ztsnr": torch.empty(0)}, path)
    found = open_checkpoint(path)
    assert (found.parameterization.name, found.levels.sigma_max > 4000) == ("velocity", True)
    write_ldm(tiny_sd.sdxl(prediction="velocity", zero_snr=True), path)
    assert {"v_pred", "ztsnr"} <= load_file(path).keys()


def test_what_only_looks_like_it_is_refused_by_name(tmp_path: Path) -> None:
    path = spelled("cos", tiny_sd.sdxl(), tmp_path)
    save_file({**load_file(path), "edm_vpred.sigma_max": torch.tensor(120.0)}, path)
    with pytest.raises(BadFile, match="is a CosXL model"):
        open_checkpoint(path)
    unmarked = {name: own for name, own in load_file(path).items() if not name.startswith("edm")}
    save_file({**unmarked, "edm_mean": torch.zeros(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1)}, path)
    with pytest.raises(BadFile, match=r"is a Playground 2\.5 model"):
        open_checkpoint(path)
    without = {name: own for name, own in load_file(path).items() if not name.startswith(("first_stage", "edm"))}
    save_file(without, path)
    with pytest.raises(BadFile, match="lacks its autoencoder"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "metadata", "channels", "prediction", "size"),
    [
        ("fine-tune", {}, 4, "velocity", 768),
        ("v2-1_768-ema-pruned", {}, 4, "velocity", 768),
        ("v2-1_512-ema-pruned", {}, 4, "epsilon", 512),
        ("512-base-ema", {}, 4, "epsilon", 512),
        ("some", {"modelspec.prediction_type": "epsilon"}, 4, "epsilon", 512),
        ("512-v", {"modelspec.prediction_type": "v"}, 4, "velocity", 768),
        ("some", {"modelspec.resolution": "512x512"}, 4, "epsilon", 512),
        ("some", {"modelspec.resolution": "768x768"}, 4, "velocity", 768),
        ("some", {"global_step": "875000"}, 4, "epsilon", 512),
        ("some", {"global_step": "140000"}, 4, "velocity", 768),
        ("fill", {}, 9, "epsilon", 512),
        ("sd_turbo", {}, 4, "epsilon", 512),
    ],
)
def test_predictions_of_2_x_are_told_apart(
    name: str, metadata: dict[str, str], channels: int, prediction: str, size: int, tmp_path: Path
) -> None:
    found = open_checkpoint(spelled(name, tiny_sd.sd2(in_channels=channels), tmp_path, metadata or None))
    assert (found.family.name, found.facts.prediction, found.size) == ("sd2", prediction, size)


@pytest.mark.parametrize(
    ("text", "prediction"),
    [
        ('model:\n  params:\n    parameterization: "v"\n    linear_start: 0.00085\n', "velocity"),
        ("model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    beta: v\n", "epsilon"),
        ("model:\n  scaling_config:\n    target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling\n", "velocity"),
    ],
)
@pytest.mark.parametrize("make", [tiny_sd.sdxl, tiny_sd.sd2])
def test_a_configuration_beside_a_file_wins(
    text: str, prediction: str, make: Callable[[], Modules], tmp_path: Path
) -> None:
    other = "v" if prediction == "epsilon" else "epsilon"
    path = spelled("model", make(), tmp_path, {"modelspec.prediction_type": other})
    assert open_checkpoint(path).facts.prediction != prediction
    path.with_suffix(".yaml").write_text(text)
    found = open_checkpoint(path)
    assert settled(found).facts.prediction == found.facts.prediction == prediction
    path.with_suffix(".yaml").write_text("notes: about this model\n")
    assert open_checkpoint(path).facts.prediction != prediction
    path.with_suffix(".yaml").write_bytes(b"\xff\x00")
    with pytest.raises(BadFile, match=r"model\.yaml"):
        open_checkpoint(path)


def test_defaults_of_2_x(tmp_path: Path) -> None:
    assert sd2.defaults(768, Facts()) == ModelDefaults("DPM++ 2M", 20, 768, 768, 7.0)
    found = open_checkpoint(spelled("sd_turbo", tiny_sd.sd2(), tmp_path))
    assert found.defaults == ModelDefaults("Euler a", 1, 512, 512, 1.0, "Turbo")


def test_settings_and_weights_of_the_second_condition_have_to_agree(tmp_path: Path) -> None:
    write_diffusers(tiny_sd.sdxl(), tmp_path / "a")
    unet = tmp_path / "a" / "unet"
    config = json.loads((unet / "config.json").read_text())
    (unet / "config.json").write_text(json.dumps({**config, "projection_class_embeddings_input_dim": 2816}))
    with pytest.raises(BadFile, match="projection_class_embeddings_input_dim is 2816, but the weights have 96"):
        open_checkpoint(tmp_path / "a")
    (unet / "config.json").write_text(json.dumps(config))
    weights = unet / "diffusion_pytorch_model.safetensors"
    save_file({name: own for name, own in load_file(weights).items() if "add_embedding" not in name}, weights)
    with pytest.raises(BadFile, match='addition_embed_type is "text_time", but the weights have null'):
        open_checkpoint(tmp_path / "a")


def test_what_other_programs_add_to_text_encoders_is_left_unread(tmp_path: Path) -> None:
    path = spelled("saved", tiny_sd.sdxl(), tmp_path)
    first, second = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
    added = (
        f"{first}logit_scale",
        f"{second}logit_scale",
        f"{second}attn_mask",
        f"{first}text_model.embeddings.position_ids",
    )
    save_file({**load_file(path), **{name: torch.ones(1) for name in added}}, path)
    found = open_checkpoint(path)
    assert (found.ignored, found.surplus) == (tuple(sorted(added)), ())
    for part in found.family.parts[2:]:
        assert found.tensors(part).keys() == tiny_sd.sdxl().tensors(part).keys()


def test_heads_are_counted_by_their_width(tmp_path: Path) -> None:
    """A file that says nothing has heads of 64 channels; 1.x has 8 on every level."""
    for made in (tiny_sd.sdxl(), tiny_sd.sd2()):
        assert open_checkpoint(spelled("bare", made, tmp_path)).facts.of("unet").head_width == 64
    net = UNet(UNetSpec(widths=(64, 128), blocks=1, depth=(1, 1), heads=(1, 1), context=8))
    shapes = Shapes(
        "file", "diffusers", {own.diffusers: tuple(net.state_dict()[own.ours].shape) for own in names(net.spec)}
    )
    for facts, heads in ((PartFacts(head_width=64), (1, 2)), (PartFacts(head_width=16), (4, 8)), (PartFacts(), (8, 8))):
        assert unet.infer(shapes, facts).heads == heads


NAMES = {
    "sdxl": {
        "model.diffusion_model.label_emb.0.0.weight": (128, 96),
        "model.diffusion_model.label_emb.0.2.bias": (128,),
        "model.diffusion_model.input_blocks.3.1.transformer_blocks.1.attn2.to_k.weight": (64, 80),
        "model.diffusion_model.output_blocks.1.2.conv.weight": (64, 64, 3, 3),
        "first_stage_model.quant_conv.weight": (8, 8, 1, 1),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.2.self_attn.q_proj.weight": (32, 32),
        "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight": (12, 32),
        "conditioner.embedders.1.model.positional_embedding": (12, 48),
        "conditioner.embedders.1.model.text_projection": (48, 48),
        "conditioner.embedders.1.model.ln_final.weight": (48,),
        "conditioner.embedders.1.model.transformer.resblocks.2.attn.in_proj_weight": (144, 48),
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_bias": (144,),
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.out_proj.weight": (48, 48),
        "conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight": (64, 48),
        "conditioner.embedders.1.model.transformer.resblocks.0.ln_1.weight": (48,),
    },
    "sdxl-refiner": {
        "model.diffusion_model.label_emb.0.0.weight": (128, 88),
        "conditioner.embedders.0.model.transformer.resblocks.1.mlp.c_proj.bias": (48,),
        "conditioner.embedders.0.model.token_embedding.weight": (520, 48),
    },
    "sd2": {
        "cond_stage_model.model.transformer.resblocks.2.ln_2.bias": (48,),
        "cond_stage_model.model.text_projection": (48, 48),
        "model.diffusion_model.middle_block.1.proj_in.weight": (64, 64),
    },
}
"""Names as published files have them. The first level of XL has no attention."""


@pytest.mark.parametrize("name", NAMES)
def test_single_files_have_the_published_names(name: str, shelf: Path) -> None:
    stored = load_file(shelf / f"{name}.safetensors")
    assert {own: tuple(stored[own].shape) for own in NAMES[name]} == NAMES[name]


def test_sd_turbo_names_its_text_encoder_as_xl_does(tmp_path: Path) -> None:
    """1024 wide, it is that of Stable Diffusion 2.x, and no refiner's; with the usual names it is the same model."""
    made = tiny_sd.sd2(prediction="epsilon")
    spec = replace(made.networks["text"].spec, width=NARROW, projection=NARROW)
    wide = ClipText(spec)
    tiny.randomize(wide, 1)
    wider = UNet(replace(made.networks["unet"].spec, context=NARROW))
    tiny.randomize(wider, 2)
    write_ldm(replace(made, networks={**made.networks, "text": wide, "unet": wider}), tmp_path / "usual.safetensors")
    stored = load_file(tmp_path / "usual.safetensors")
    old, new = "cond_stage_model.model.", "conditioner.embedders.0.model."
    renamed = {new + name.removeprefix(old) if name.startswith(old) else name: t for name, t in stored.items()}
    assert any(name.startswith(new) for name in renamed)
    save_file(renamed, tmp_path / "sd_turbo.safetensors")
    turbo = open_checkpoint(tmp_path / "sd_turbo.safetensors")
    assert (turbo.family.name, turbo.defaults) == ("sd2", ModelDefaults("Euler a", 1, 512, 512, 1.0, "Turbo"))
    own, usual = (
        checkpoint.load(CLIP_H, torch.float32).state_dict()
        for checkpoint in (turbo, open_checkpoint(tmp_path / "usual.safetensors"))
    )
    assert own.keys() == usual.keys()
    assert all(torch.equal(own[name], usual[name]) for name in own)
    assert run(["models", "inspect", str(tmp_path / "sd_turbo.safetensors")]) == 0


def test_a_model_with_fewer_layers_is_one_line(tmp_path: Path) -> None:
    """SSD-1B and Vega have neither attention nor a second residual block in the middle."""
    write_ldm(tiny_sd.sdxl(), tmp_path / "file.safetensors")
    write_diffusers(tiny_sd.sdxl(), tmp_path / "folder")
    left_out = ("model.diffusion_model.middle_block.1.", "model.diffusion_model.middle_block.2.", "mid_block.")
    for file in (tmp_path / "file.safetensors", tmp_path / "folder/unet/diffusion_pytorch_model.safetensors"):
        save_file({k: v for k, v in load_file(file).items() if not k.startswith(left_out)}, file, {"format": "pt"})
    config = tmp_path / "folder/unet/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "mid_block_type": "UNetMidBlock2D"}))
    engine = engine_on(tmp_path / "any")
    for model in ("file", "folder"):
        with pytest.raises(BadFile, match=r"is distilled to fewer layers, as SSD-1B, Segmind Vega"):
            engine.resolve(request(model=model))
