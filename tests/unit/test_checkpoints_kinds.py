"""What a file is, from names and shapes: published files, variations of them, and what is like them and is not."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from atelier.checkpoints.assembling import assembled
from atelier.checkpoints.kind import Identity, Seen, kinds, recognised
from atelier.checkpoints.opening import open_checkpoint
from atelier.cli.models import app
from atelier.weights.archive import open_any

ABOVE = Path(__file__).resolve().parents[3:5]
PLACES = [above / "shared/facts/keys" for above in ABOVE]
FACTS = next((place for place in PLACES if place.is_dir()), PLACES[0])
"""Lists of published files, which lie beside the project and not in it."""
Shapes = Mapping[str, tuple[int, ...]]

PUBLISHED = """
clip_vision_g image_encoder - vit_g
clip_vision_h image_encoder - vit_h
coadapter_fuser t2i_adapter sd1 fuser
codeformer face_restorer - codeformer
controlnet_lllite_sdxl controlnet sdxl lllite
controlnet_sd15_diffusers controlnet sd1 base
controlnet_sd21_diffusers controlnet sd2 base
controlnet_sdxl_cldm controlnet sdxl base
controlnet_union_promax_sdxl_diffusers controlnet sdxl union_promax
controlnet_union_sdxl_diffusers controlnet sdxl union
controlnet_v1_cldm_control_model controlnet sd1 base
flux_dev_comfy_allinone checkpoint flux dev
gfpgan_v1_clean face_restorer - gfpgan
instantid_ip_adapter ip_adapter sdxl instantid
ipadapter_faceid_plusv2_sdxl ip_adapter sdxl faceid_plus
ipadapter_faceid_portrait_sd15 ip_adapter sd1 faceid_portrait
ipadapter_faceid_sd15 ip_adapter sd1 faceid
ipadapter_faceid_sdxl ip_adapter sdxl faceid
ipadapter_plus_sd15 ip_adapter sd1 plus
ipadapter_plus_sdxl_vith ip_adapter sdxl plus
ipadapter_sd15_vitG ip_adapter sd1 base_vit_g
ipadapter_sdxl ip_adapter sdxl base_vit_g
lcm_lora_sd15 lora sd1 locon
lcm_lora_sdxl lora sdxl locon
lora_diffusers_v1_sd1 lora sd1 lora
lora_diffusers_v2_sd1 lora sd1 lora
lora_kohya_sd1 lora sd1 lora
lora_kohya_sd1_conv lora sd1 locon
lora_kohya_sd1_noalpha lora sd1 lora
lora_kohya_sd2 lora sd2 lora
lora_kohya_sdxl_conv lora sdxl locon
lora_peft_dora_sd1 lora sd1 dora
lora_peft_sd1 lora sd1 lora
lora_peft_sd3 lora sd3 lora
lycoris_sd1_dora lora sd1 dora
lycoris_sd1_dylora lora sd1 locon
lycoris_sd1_glora lora sd1 glora
lycoris_sd1_ia3 lora sd1 ia3
lycoris_sd1_locon_norm lora sd1 locon
lycoris_sd1_locon_tucker lora sd1 locon
lycoris_sd1_loha_tucker lora sd1 loha
lycoris_sd1_lokr_both lora sd1 lokr
lycoris_sd1_lokr_full lora sd1 lokr
lycoris_sd1_lokr_tucker_f4 lora sd1 lokr
lycoris_sdxl_loha lora sdxl loha
lycoris_sdxl_lokr_f8 lora sdxl lokr
other_invoke_flux_control_lora_format control_lora flux rank_128
other_invoke_flux_dora_onetrainer_format lora flux dora
other_invoke_flux_lora_aitoolkit_format lora flux lora
other_invoke_flux_lora_diffusers_base_model_format lora flux lora
other_invoke_flux_lora_diffusers_format lora flux lora
other_invoke_flux_lora_kohya_format lora flux lora
other_invoke_flux_lora_kohya_with_te1_format lora flux lora
other_invoke_flux_lora_xlabs_format lora flux lora
parsing_bisenet face_parser - bisenet
parsing_parsenet face_parser - parsenet
photomaker_v2 photomaker sdxl v2
realesr_animevideov3 upscaler - compact
realesrgan_x2plus upscaler - esrgan
realesrgan_x4plus upscaler - esrgan
restoreformer face_restorer - restoreformer
retinaface_resnet50 face_detector - retinaface
sd15_inpainting_ldm checkpoint sd1 inpainting
sd15_inpainting_unet_diffusers unet sd1 inpainting
sd15_instruct_pix2pix_ldm checkpoint sd1 instruct_pix2pix
sd1_ema_alias_layout unet sd1 ema
sd1_ldm_full checkpoint sd1 base
sd1_ldm_required checkpoint sd1 base
sd1_novelai_layout checkpoint sd1 base
sd1_unet_diffusers unet sd1 base
sd21_unclip_l_ldm checkpoint sd2 unclip
sd2_depth_ldm checkpoint sd2 depth
sd2_depth_unet_diffusers unet sd2 depth
sd2_inpainting_ldm checkpoint sd2 inpainting
sd2_ldm checkpoint sd2 base
sd2_wd14_ldm checkpoint sd2 base
sd35_large_sai checkpoint sd3 3.5-large
sd35_large_transformer_diffusers unet sd3 3.5-large
sd35_medium_transformer_diffusers unet sd3 3.5-medium
sd3_medium_comfy checkpoint sd3 medium
sd3_medium_transformer_diffusers unet sd3 medium
sdxl_base_sgm checkpoint sdxl base
sdxl_optional_marker_keys text_encoder sdxl clip_l
sdxl_refiner_sgm checkpoint sdxl refiner
sdxl_refiner_unet_diffusers unet sdxl refiner
sdxl_unet_diffusers unet sdxl base
swinir_large_x4_real upscaler - swinir
t2iadapter_sd14_1ch t2i_adapter sd1 full
t2iadapter_sd14_3ch t2i_adapter sd1 full
t2iadapter_sdxl_diffusers t2i_adapter sdxl full
t2iadapter_sdxl_original_cin256 t2i_adapter sdxl full
t2iadapter_style t2i_adapter sd1 style
taesd3_decoder tiny_vae sd3 decoder
taesd3_encoder tiny_vae sd3 encoder
taesd_decoder tiny_vae sd1 decoder
taesd_encoder tiny_vae sd1 encoder
text_encoder_clip_g_hf text_encoder sdxl clip_g
text_encoder_clip_l_hf text_encoder sd1 clip_l
text_encoder_sd2_hf text_encoder sd2 clip_h
text_encoder_t5xxl text_encoder sd3 t5xxl
vae_diffusers_old_names vae sd1 base
vae_ldm_sd1_sd2_sdxl vae sd1 base
vae_sd3_diffusers vae sd3 base
x4_upscaler_unet_diffusers unet sd2 x4_upscaler
x4_upscaler_vae_diffusers vae sd2 x4_upscaler
"""
ROWS = [line.split() for line in PUBLISHED.strip().splitlines()]


def published(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published file; a rank that its list leaves open is 8."""
    path = FACTS / f"{name}.json"
    if not path.is_file():
        pytest.skip("the lists of published files are not here")
    keys = json.loads(path.read_text())["keys"]
    return {key: tuple(8 if extent == -1 else extent for extent in shape or ()) for key, shape in keys.items()}


def asked(shapes: Shapes) -> list[Identity]:
    """What each kind says of a file, those that do not know it left out."""
    seen = Seen(shapes)
    return [found for kind in kinds().values() if (found := kind.recognise(seen)) is not None]


def told(shapes: Shapes, **metadata: str) -> tuple[str, str | None, str | None]:
    found = recognised(Seen(shapes, metadata))
    assert found is not None
    return found.kind, found.family, found.variant


@pytest.mark.parametrize(("name", "kind", "family", "variant"), ROWS, ids=[row[0] for row in ROWS])
def test_a_published_file_is_of_one_kind(name: str, kind: str, family: str, variant: str) -> None:
    shapes = {name.removeprefix("module."): shape for name, shape in published(name).items()}
    found = asked(shapes)
    assert [(f.kind, f.family or "-", f.variant) for f in found] == [(kind, family, variant)]
    assert told(shapes)[0] == kind


def test_every_list_has_a_row() -> None:
    if not FACTS.is_dir():
        pytest.skip("the lists of published files are not here")
    lists = {path.stem for path in FACTS.glob("*.json") if "keys" in json.loads(path.read_text())}
    assert lists == {row[0] for row in ROWS}


# What is like a published file


def sparse(path: Path, shapes: Shapes, dtype: str = "F16", size: int = 2, **metadata: str) -> Path:
    """A file of zeros that takes no room."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        count = size
        for extent in shape:
            count *= extent
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + count]}
        end += count
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def inspected(path: Path, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["inspect", str(path), "--json", *options])
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def named(names: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(names.split(), shape)


def prefixed(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {prefix + name: shape for name, shape in shapes.items()}


def without(shapes: Shapes, *beginnings: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in shapes.items() if not name.startswith(beginnings)}


def only(shapes: Shapes, beginning: str) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in shapes.items() if name.startswith(beginning)}


TO_K = "input_blocks.4.1.transformer_blocks.0.attn2.to_k"
SMALL: dict[str, tuple[dict[str, tuple[int, ...]], tuple[str, str | None, str | None]]] = {
    "clip vision l": (
        named("vision_model.encoder.layers.0.layer_norm1.weight", 1024),
        ("image_encoder", None, "vit_l"),
    ),
    "safety checker": (
        named("concept_embeds", 17, 768)
        | named("special_care_embeds", 3, 768)
        | named("vision_model.vision_model.encoder.layers.0.layer_norm1.weight", 1024),
        ("safety_checker", "sd1", "clip_l"),
    ),
    "control-lora": (
        named("lora_controlnet")
        | named("input_hint_block.0.weight", 16, 3, 3, 3)
        | named("input_blocks.0.0.down", 128, 4, 3, 3)
        | named(f"{TO_K}.down", 128, 2048)
        | named(f"{TO_K}.up", 640, 128),
        ("control_lora", "sdxl", "rank_128"),
    ),
    "light t2i": (
        named("body.0.in_conv.weight", 80, 192, 1, 1)
        | named("body.0.body.0.block1.weight", 80, 80, 3, 3)
        | named("body.0.out_conv.weight", 320, 80, 1, 1),
        ("t2i_adapter", "sd1", "light"),
    ),
    "full face": (
        named("image_proj.proj.0.weight", 1280, 1280)
        | named("image_proj.proj.3.weight", 768)
        | named("ip_adapter.1.to_k_ip.weight", 320, 768),
        ("ip_adapter", "sd1", "full_face"),
    ),
    "plain ip": (
        named("image_proj.proj.weight", 3072, 1024) | named("ip_adapter.1.to_k_ip.weight", 320, 768),
        ("ip_adapter", "sd1", "base"),
    ),
    "faceid plus": (
        named("image_proj.perceiver_resampler.proj_in.weight", 768, 1280)
        | named("ip_adapter.1.to_k_ip.weight", 320, 768)
        | named("ip_adapter.0.to_q_lora.down.weight", 128, 320),
        ("ip_adapter", "sd1", "faceid_plus"),
    ),
    "photomaker v1": (named("id_encoder.fuse_module.mlp1.fc1.weight", 2048, 4096), ("photomaker", "sdxl", "v1")),
    "old esrgan": (
        named("model.0.weight", 64, 3, 3, 3) | named("model.1.sub.0.RDB1.conv1.0.weight", 32, 64, 3, 3),
        ("upscaler", None, "esrgan"),
    ),
    "embedding": (named("emb_params", 5, 768), ("embedding", "sd1", "plain")),
    "embedding of sd2": (named("emb_params", 8, 1024), ("embedding", "sd2", "plain")),
    "embedding of sdxl": (named("clip_l", 2, 768) | named("clip_g", 2, 1280), ("embedding", "sdxl", "plain")),
    "embedding of a1111": (named("string_to_param.*", 3, 768), ("embedding", "sd1", "a1111")),
    "embedding of diffusers": (named("<cat-toy>", 768), ("embedding", "sd1", "tokens")),
    "hypernetwork": (
        named("768.0.linear.0.weight", 1536, 768) | named("768.1.linear.1.weight", 768, 1536),
        ("hypernetwork", "sd1", "linear"),
    ),
    "novelai hypernetwork": (named("768.0.linear1.weight", 1536, 768), ("hypernetwork", "sd1", "linear")),
    "cascade stage c": (
        named("clip_txt_mapper.weight", 2048, 1280) | named("down_blocks.0.0.channelwise.0.weight", 2048, 2048),
        ("unet", "cascade", "stage_c"),
    ),
    "cascade stage b": (
        named("effnet_mapper.0.weight", 2048, 16, 1, 1) | named("clip_mapper.weight", 5120, 1280),
        ("unet", "cascade", "stage_b"),
    ),
    "flux of diffusers": (
        named("single_transformer_blocks.0.attn.to_q.weight", 3072, 3072) | named("x_embedder.weight", 3072, 64),
        ("unet", "flux", "schnell"),
    ),
    "flux fill": (
        named("double_blocks.0.img_attn.qkv.weight", 9216, 3072) | named("img_in.weight", 3072, 384),
        ("unet", "flux", "fill"),
    ),
    "pixart": (
        named("adaln_single.linear.weight", 6912, 1152) | named("pos_embed.proj.weight", 1152, 4, 2, 2),
        ("unet", "pixart", "base"),
    ),
    "sd3 lora of kohya": (
        named("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight", 4, 1536),
        ("lora", "sd3", "lora"),
    ),
    "oft": (
        named("oft_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.oft_blocks", 4, 16, 16),
        ("lora", "sdxl", "oft"),
    ),
    "oft of lycoris": (
        named("lora_unet_down_blocks_0_attentions_0_proj_in.oft_blocks", 4, 80, 80),
        ("lora", "sd1", "oft"),
    ),
    "full difference": (
        named("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.diff", 640, 1024),
        ("lora", "sd2", "diff"),
    ),
    "peft default": (
        named("base_model.model.down_blocks.1.transformer_blocks.0.attn2.to_k.lora_A.default.weight", 4, 768),
        ("lora", "sd1", "lora"),
    ),
    "vq": (
        named("encoder.conv_in.weight", 128, 3, 3, 3)
        | named("decoder.conv_in.weight", 512, 3, 3, 3)
        | named("quantize.embedding.weight", 8192, 3)
        | named("encoder.down.0.block.0.norm1.weight encoder.down.1.block.0.norm1.weight", 128)
        | named("encoder.down.2.block.0.norm1.weight", 128),
        ("vae", "ldm", "vq-f4"),
    ),
    "open clip": (
        named("conditioner.embedders.1.model.transformer.resblocks.0.ln_1.weight", 1280),
        ("text_encoder", "sdxl", "clip_g"),
    ),
    "motion module": (
        named("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", 320)
        | named("down_blocks.3.motion_modules.0.temporal_transformer.norm.weight", 1280),
        ("motion_module", "sd1", "base"),
    ),
}


@pytest.mark.parametrize("name", SMALL)
def test_other_files_are_of_one_kind(name: str) -> None:
    shapes, expected = SMALL[name]
    assert [(f.kind, f.family, f.variant) for f in asked(shapes)] == [expected]


@pytest.mark.parametrize(
    "shapes", [{}, named("weight", 3), named("fc1.weight fc2.weight", 10, 10), named("a.b.c", 768)]
)
def test_what_is_nothing_known_is_of_no_kind(shapes: Shapes) -> None:
    assert asked(shapes) == []


def test_parts_of_checkpoints_are_told_alone() -> None:
    sdxl = published("sdxl_base_sgm")
    assert told(only(sdxl, "model.diffusion_model.")) == ("unet", "sdxl", "base")
    assert told(only(sdxl, "first_stage_model.")) == ("vae", "sd1", "base")
    assert told(only(sdxl, "conditioner.embedders.1.")) == ("text_encoder", "sdxl", "clip_g")
    assert told(only(published("sd1_ldm_required"), "cond_stage_model.")) == ("text_encoder", "sd1", "clip_l")
    t5 = only(published("sd3_medium_comfy"), "text_encoders.t5xxl.")
    assert told(t5) == ("text_encoder", "sd3", "t5xxl")


def test_variants_follow_from_channels_and_widths() -> None:
    sdxl, unet = published("sdxl_base_sgm"), published("sdxl_unet_diffusers")
    wide = {"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)}
    assert told(sdxl | wide) == ("checkpoint", "sdxl", "inpainting")
    assert told(unet | {"conv_in.weight": (320, 9, 3, 3)}) == ("unet", "sdxl", "inpainting")
    assert told(unet | {"time_embedding.cond_proj.weight": (320, 256)}) == ("unet", "sdxl", "lcm")
    assert told(without(sdxl, "model.diffusion_model.middle_block.1."))[2] == "distilled"
    assert told(sdxl | {"low_scale_model.betas": (1000,)}) == ("checkpoint", "sdxl", "base")
    unclip = published("sd21_unclip_l_ldm") | {"model.diffusion_model.label_emb.0.0.weight": (1280, 2048)}
    assert told(unclip) == ("checkpoint", "sd2", "unclip")


def test_what_a_denoiser_predicts_is_said_by_marks_and_metadata() -> None:
    sdxl, sd2 = published("sdxl_base_sgm"), published("sd2_ldm")
    seen = [
        Seen(sdxl),
        Seen(sdxl | {"v_pred": (0,)}),
        Seen(sdxl | {"edm_vpred.sigma_max": ()}),
        Seen(sd2),
        Seen(sd2, {"global_step": "875000"}),
        Seen(sd2, {"modelspec.prediction_type": "v"}),
        Seen(published("sd3_medium_comfy")),
    ]
    found = [recognised(own) for own in seen]
    expected = ["epsilon", "velocity", "velocity", None, "epsilon", "velocity", "flow"]
    assert [own.prediction if own else "" for own in found] == expected


def test_wrappers_and_prefixes_change_nothing() -> None:
    control = {
        name.removeprefix("control_model."): s for name, s in published("controlnet_v1_cldm_control_model").items()
    }
    assert told(control) == ("controlnet", "sd1", "base")
    assert told(prefixed(published("sd1_unet_diffusers"), "unet.")) == ("unet", "sd1", "base")
    whole = published("sd1_ldm_required") | published("controlnet_v1_cldm_control_model")
    assert told(whole) == ("controlnet", "sd1", "base")


PIPELINES = {
    "sd1": {
        "unet.": "sd1_unet_diffusers",
        "vae.": "vae_diffusers_old_names",
        "text_encoder.": "text_encoder_clip_l_hf",
    },
    "sdxl": {
        "unet.": "sdxl_unet_diffusers",
        "vae.": "vae_diffusers_old_names",
        "text_encoder_2.": "text_encoder_clip_g_hf",
    },
    "sd3": {
        "transformer.": "sd3_medium_transformer_diffusers",
        "vae.": "vae_sd3_diffusers",
        "text_encoder_3.": "text_encoder_t5xxl",
    },
}


def test_a_whole_model_is_none_of_its_parts() -> None:
    cut = {name.removeprefix("model."): shape for name, shape in published("sd1_ldm_required").items()}
    files = {"sd1 cut": cut, "no autoencoder": without(cut, "first_stage_model.")} | {
        family: {k: v for prefix, name in parts.items() for k, v in prefixed(published(name), prefix).items()}
        for family, parts in PIPELINES.items()
    }
    assert {name: [(own.kind, own.family) for own in asked(shapes)] for name, shapes in files.items()} == {
        "sd1 cut": [("checkpoint", "sd1")],
        "no autoencoder": [("checkpoint", "sd1")],
        "sd1": [("checkpoint", "sd1")],
        "sdxl": [("checkpoint", "sdxl")],
        "sd3": [("checkpoint", "sd3")],
    }
    assert recognised(Seen(files["sd1"])) == Identity("checkpoint", "sd1", "base", prediction="epsilon")
    assert told(prefixed(published("text_encoder_clip_g_hf"), "text_encoder_2."))[2] == "clip_g"
    assert told(prefixed(published("text_encoder_t5xxl"), "text_encoder_3."))[2] == "t5xxl"


@pytest.mark.parametrize("prefix", ["diffusion_model.", "transformer."])
def test_an_adapter_of_all_parts_is_no_model(prefix: str) -> None:
    flux = named(f"{prefix}double_blocks.0.img_attn.qkv.lora_A.weight", 4, 3072)
    text = named("text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight", 4, 768)
    assert [(own.kind, own.family) for own in asked(flux | text)] == [("lora", "flux")]


def test_adapters_of_half_a_model_tell_their_family() -> None:
    sdxl, sd1 = published("lora_kohya_sdxl_conv"), published("lora_kohya_sd1")
    assert told(only(sdxl, "lora_unet_input_blocks_8"))[:2] == ("lora", "sdxl")
    assert told(only(sdxl, "lora_te2_"))[:2] == ("lora", "sdxl")
    assert told(only(sd1, "lora_te_"))[:2] == ("lora", "sd1")
    assert told(only(published("lora_kohya_sd2"), "lora_te_"))[:2] == ("lora", "sd2")
    attention = {name: s for name, s in sd1.items() if re.search("attn1_to_q", name)}
    assert told(attention)[:2] == ("lora", "sd1")
    alone = named("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", 8, 1280)
    assert told(alone)[1] is None
    assert told(alone, ss_base_model_version="sdxl_base_v1-0")[1] == "sdxl"
    assert told(alone, **{"modelspec.architecture": "stable-diffusion-v1/lora"})[1] == "sd1"


# The command


@pytest.mark.parametrize(
    "wrapper", ["module.", "state_dict.", "model.", "module.model.", "state_dict.module.", "_orig_mod."]
)
def test_what_stands_before_all_names_changes_nothing(wrapper: str, tmp_path: Path) -> None:
    whole = inspected(sparse(tmp_path / "whole.safetensors", prefixed(published("sd1_ldm_required"), wrapper)))
    assert (whole["kind"], whole["family"], whole["variant"]) == ("checkpoint", "sd1", "base")
    assert (whole["supported"], whole["problem"]) == (True, None)
    net = inspected(sparse(tmp_path / "net.safetensors", prefixed(published("swinir_large_x4_real"), wrapper)))
    assert (net["kind"], net["variant"]) == ("upscaler", "swinir")


def test_a_checkpoint_of_seven_gigabytes_is_told(tmp_path: Path) -> None:
    path = sparse(tmp_path / "xl.safetensors", published("sdxl_base_sgm"))
    assert path.stat().st_size > 6.9e9
    found = inspected(path)
    assert (found["kind"], found["family"], found["variant"]) == ("checkpoint", "sdxl", "base")
    assert found["dtype"] == "fp16"
    assert 2_567_463_684 in [part["parameters"] for part in found["parts"].values()], "the size of its denoiser"


@pytest.mark.parametrize("name", [row[0] for row in ROWS[::6]])
def test_a_sparse_file_of_each_list_is_inspected(name: str, tmp_path: Path) -> None:
    row = next(row for row in ROWS if row[0] == name)
    found = inspected(sparse(tmp_path / "a.ckpt", published(name)))
    assert [found["kind"], found["family"] or "-", found["variant"]] == row[1:]
    assert isinstance(found["supported"], bool)


def test_what_the_author_says_is_shown(tmp_path: Path) -> None:
    tags = {"20_cat": {"cat": 20, "red hair": 7}, "10_dog": {"dog": 12, "cat": 3}}
    path = sparse(
        tmp_path / "a.safetensors",
        SMALL["sd3 lora of kohya"][0],
        ss_tag_frequency=json.dumps(tags),
        ss_sd_model_name="sd3_medium.safetensors",
        ss_base_model_version="None",
        **{"modelspec.license": "CC-BY\x1b[31m"},
    )
    found = inspected(path)
    assert found["trigger_words"] == ["cat", "dog", "red hair"]
    assert (found["base_model"], found["licence"]) == ("sd3_medium.safetensors", "CC-BY\x1b[31m")
    text = CliRunner().invoke(app, ["inspect", str(path)]).stdout
    assert "\x1b" not in text
    assert "cat, dog, red hair" in text
    assert "LoRA of Stable Diffusion 3" in text


def test_trigger_phrases_come_before_tags_and_nonsense_is_passed_over(tmp_path: Path) -> None:
    shapes = SMALL["sd3 lora of kohya"][0]
    said = {"modelspec.trigger_phrase": "ohwx, cat"}
    found = inspected(sparse(tmp_path / "a", shapes, ss_tag_frequency='{"a": {"b": 1}}', **said))
    assert found["trigger_words"] == ["ohwx", "cat"]
    for nonsense in ("[", "[1]", '{"a": 3}', '{"a": {"b": "c"}}', "[" * 100_000):
        assert inspected(sparse(tmp_path / "b", shapes, ss_tag_frequency=nonsense))["trigger_words"] in ([], ["b"])


def test_hashes_are_those_that_the_community_quotes(tmp_path: Path) -> None:
    import hashlib

    path = sparse(tmp_path / "a.safetensors", named("emb_params", 2, 768))
    whole, inner = path.read_bytes(), path.read_bytes()[8 + struct.unpack("<Q", path.read_bytes()[:8])[0] :]
    done = CliRunner().invoke(app, ["inspect", str(path), "--json", "--hash"])
    found = json.loads(done.stdout)
    assert found["sha256"] == hashlib.sha256(whole).hexdigest()
    assert found["short"] == found["sha256"][:10]
    assert found["autov3"] == hashlib.sha256(inner).hexdigest()[:12]
    assert inspected(path)["sha256"] is None


def test_what_cannot_be_generated_with_is_named(tmp_path: Path) -> None:
    flux = sparse(tmp_path / "flux.safetensors", published("flux_dev_comfy_allinone"))
    found = inspected(flux)
    assert (found["supported"], found["family"]) == (False, "flux")
    assert "checkpoint of Flux (dev), which cannot be read yet" in str(found["problem"])
    for name, usable in {
        "realesrgan_x4plus": True,
        "swinir_large_x4_real": False,
        "vae_ldm_sd1_sd2_sdxl": True,
        "x4_upscaler_vae_diffusers": True,
        "sd15_inpainting_unet_diffusers": True,
        "other_invoke_flux_lora_xlabs_format": False,
        "lora_kohya_sd1": True,
        "codeformer": False,
    }.items():
        assert inspected(sparse(tmp_path / name, published(name)))["supported"] is usable, name


def test_parts_under_other_names_are_told_with_a_way_out(tmp_path: Path) -> None:
    text, other = "cond_stage_model.transformer.", "text_encoders.clip_l.transformer."
    shapes = {name.replace(text, other): shape for name, shape in published("sd1_ldm_required").items()}
    path = sparse(tmp_path / "a.safetensors", shapes)
    assert str(inspected(path)["problem"]).endswith(
        "which lacks a text encoder or has it under other names: name a file that has it with --text-encoder FILE "
        "(this one, or another)"
    )
    assert assembled(path, None, [path]).parts["text"].prefix == other


def test_a_model_without_the_outermost_name_opens(tmp_path: Path) -> None:
    shapes = {name.removeprefix("model."): shape for name, shape in published("sd1_ldm_required").items()}
    found = inspected(sparse(tmp_path / "a.safetensors", shapes))
    assert (found["kind"], found["family"], found["supported"]) == ("checkpoint", "sd1", True)
    short = {name.replace("first_stage_model.", "vae."): shape for name, shape in shapes.items()}
    assert open_checkpoint(sparse(tmp_path / "b.safetensors", short)).parts["vae"].layout == "ldm"


def test_tensors_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    down, up, alpha = torch.ones(4, 768), torch.zeros(640, 4), torch.tensor(0.0)
    tensors = {f"{name}.lora_down.weight": down.half(), f"{name}.lora_up.weight": up, f"{name}.alpha": alpha}
    save_file(tensors, tmp_path / "a.safetensors")
    found = inspected(tmp_path / "a.safetensors", "--check")
    assert (found["not_finite"], found["zero"]) == ([], [f"{name}.lora_up.weight"])
    down[1, 3], alpha[...] = torch.nan, torch.inf
    save_file({**tensors, f"{name}.lora_down.weight": down.half()}, tmp_path / "b.safetensors")
    found = inspected(tmp_path / "b.safetensors", "--check")
    assert found["not_finite"] == [f"{name}.alpha", f"{name}.lora_down.weight"]
    text = CliRunner().invoke(app, ["inspect", str(tmp_path / "b.safetensors"), "--check"]).stdout
    assert "2 tensors (" in text
    assert ") not finite; 1 tensor (" in text


# Pickles that nest their tensors


def layers(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.full(shape, float(number)) for number, (name, shape) in enumerate(shapes.items(), start=1)}


NESTED: dict[str, tuple[object, tuple[str, str | None, str]]] = {
    "ip-adapter": (
        {
            "image_proj": layers({"proj.weight": (3072, 1024)}),
            "ip_adapter": layers({"1.to_k_ip.weight": (320, 768), "1.to_v_ip.weight": (320, 768)}),
        },
        ("ip_adapter", "sd1", "base"),
    ),
    "hypernetwork": (
        {
            768: (layers({"linear.0.weight": (1536, 768)}), layers({"linear.0.weight": (1536, 768)})),
            320: (layers({"linear.0.weight": (640, 320)}), layers({"linear.0.weight": (640, 320)})),
            "step": 2000,
            "name": "style",
            "layer_structure": [1, 2, 1],
            "activation_func": "relu",
        },
        ("hypernetwork", "sd1", "relu"),
    ),
    "embedding of a1111": (
        {
            "string_to_token": {"*": torch.tensor(265)},
            "string_to_param": {"*": torch.ones(3, 1024)},
            "name": "mine",
            "step": 500,
            "sd_checkpoint": None,
        },
        ("embedding", "sd2", "a1111"),
    ),
    "embedding of torch before 1.12": (
        {"string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.ones(2, 768))}), "name": "old"},
        ("embedding", "sd1", "a1111"),
    ),
    "embedding of diffusers": ({"<cat-toy>": torch.ones(768)}, ("embedding", "sd1", "tokens")),
    "photomaker": (
        {
            "id_encoder": layers({"fuse_module.mlp1.fc1.weight": (8, 8)}),
            "lora_weights": layers({"unet.down_blocks.0.processor.to_q_lora.down.weight": (4, 8)}),
        },
        ("photomaker", "sdxl", "v1"),
    ),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", NESTED)
def test_pickles_that_nest_their_tensors_are_told(name: str, zipped: bool, tmp_path: Path) -> None:
    value, expected = NESTED[name]
    torch.save(value, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    found = inspected(tmp_path / "a.pt")
    assert (found["kind"], found["family"], found["variant"]) == expected


def test_nested_tensors_are_read_under_all_keys_on_the_way(tmp_path: Path) -> None:
    value, _ = NESTED["hypernetwork"]
    torch.save(value, tmp_path / "a.pt")
    archive = open_any(tmp_path / "a.pt")
    assert sorted(archive.tensors) == [f"{width}.{way}.linear.0.weight" for width in (320, 768) for way in (0, 1)]
    read = archive.load(["768.1.linear.0.weight"])["768.1.linear.0.weight"]
    assert torch.equal(read, torch.ones(1536, 768))
    assert archive.metadata["step"] == "2000"


def test_notes_of_an_embedding_count_its_vectors(tmp_path: Path) -> None:
    save_file({"emb_params": torch.ones(5, 768)}, tmp_path / "a.safetensors")
    assert inspected(tmp_path / "a.safetensors")["notes"] == ["has 5 vectors"]


def test_the_page_names_every_kind() -> None:
    page = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
    named = page.partition("`kind` is one of ")[2].partition(";")[0].replace(" (all weight adapters)", "")
    assert {name.strip() for name in named.replace("\n", " ").split(",")} == kinds().keys() - {"cascade_vae"}
