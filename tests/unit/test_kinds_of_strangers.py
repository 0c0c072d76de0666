"""Files as their authors and trainers name them: few names each, those that tell them apart."""

from __future__ import annotations

import pytest
from test_checkpoints_kinds import asked, named, only, prefixed, published, told, without

from atelier.checkpoints.kind import Seen, kinds, recognised

Shapes = dict[str, tuple[int, ...]]
DENOISER = "model.diffusion_model."

NETWORKS: dict[str, tuple[Shapes, tuple[str, str | None, str]]] = {
    "PixArt": (
        named("t_block.1.weight", 6912, 1152) | named("blocks.0.cross_attn.kv_linear.weight", 2304, 1152),
        ("unet", "pixart", "base"),
    ),
    "AuraFlow": (named("double_layers.0.attn.w1q.weight cond_seq_linear.weight", 4, 4), ("unet", "auraflow", "base")),
    "Hunyuan-DiT": (named("mlp_t5.0.weight blocks.0.attn2.kv_proj.weight", 4, 4), ("unet", "hunyuan_dit", "base")),
    "Lumina 2": (
        named("cap_embedder.1.weight layers.0.attention.qkv.weight", 2304, 2304),
        ("unet", "lumina", "base"),
    ),
    "Z-Image": (
        named("cap_embedder.1.weight cap_pad_token layers.0.attention.qkv.weight", 4, 4),
        ("unet", "z_image", "base"),
    ),
    "HiDream": (
        named("double_stream_blocks.0.block.attn1.to_q.weight caption_projection.0.linear.weight", 4, 4),
        ("unet", "hidream", "base"),
    ),
    "Wan": (
        named("blocks.0.cross_attn.k.weight text_embedding.0.weight", 4, 4)
        | named("patch_embedding.weight", 4, 4, 1, 2, 2),
        ("unet", "wan", "base"),
    ),
    "HunyuanVideo": (
        named("double_blocks.0.img_attn.qkv.weight txt_in.individual_token_refiner.blocks.0.norm1.weight", 4, 4),
        ("unet", "hunyuan_video", "base"),
    ),
    "LTX-Video": (
        named("adaln_single.linear.weight patchify_proj.weight caption_projection.linear_1.weight", 4, 4),
        ("unet", "ltx_video", "base"),
    ),
    "LTX-Video with its autoencoder": (
        prefixed(named("adaln_single.linear.weight patchify_proj.weight", 4, 4), DENOISER)
        | named("vae.encoder.conv_in.conv.weight", 4, 4, 3, 3, 3),
        ("checkpoint", "ltx_video", "base"),
    ),
    "Mochi": (named("t5_yproj.weight blocks.0.attn.qkv_x.weight", 4, 4), ("unet", "mochi", "base")),
    "Cosmos": (named("blocks.block0.blocks.0.block.attn.to_q.0.weight", 4, 4), ("unet", "cosmos", "base")),
    "Sana": (
        named("blocks.0.mlp.inverted_conv.conv.weight t_block.1.weight", 4, 4),
        ("unet", "sana", "base"),
    ),
    "OmniGen 2": (
        named("time_caption_embed.caption_embedder.1.weight ref_image_refiner.0.attn.to_q.weight", 4, 4),
        ("unet", "omnigen", "base"),
    ),
    "Chroma": (
        named("distilled_guidance_layer.in_proj.weight double_blocks.0.img_attn.qkv.weight", 4, 64),
        ("unet", "chroma", "base"),
    ),
    "Flux in fp8 with scales": (
        named("double_blocks.0.img_attn.qkv.weight img_in.weight guidance_in.in_layer.weight", 4, 64)
        | named("double_blocks.0.img_attn.qkv.scale_weight scaled_fp8"),
        ("unet", "flux", "dev"),
    ),
    "Stable Cascade with its text encoder": (
        prefixed(named("clip_txt_mapper.weight", 4, 4), DENOISER)
        | named("text_encoder.transformer.text_model.encoder.layers.0.layer_norm1.weight", 1280),
        ("checkpoint", "cascade", "stage_c"),
    ),
    "Stable Cascade's EfficientNet": (
        named("backbone.1.0.block.0.0.weight mapper.0.weight", 4, 4, 1, 1),
        ("image_encoder", "cascade", "effnet"),
    ),
    "DRCT": (
        named("layers.0.swin1.attn.qkv.weight layers.0.swin1.norm1.weight", 540, 180),
        ("upscaler", None, "drct"),
    ),
    "ATD": (
        named("layers.0.residual_group.td layers.0.residual_group.layers.0.norm1.weight", 64, 210),
        ("upscaler", None, "atd"),
    ),
    "RGT": (
        named("layers.0.blocks.0.gamma layers.0.blocks.0.attn.qkv.weight", 540, 180),
        ("upscaler", None, "rgt"),
    ),
    "PLKSR": (
        named("feats.0.weight feats.1.lk.conv.weight feats.1.channel_mixer.0.weight", 64, 3, 3, 3),
        ("upscaler", None, "plksr"),
    ),
    "Real-CUGAN": (
        named("unet1.conv1.conv.0.weight unet2.conv1.conv.0.weight", 32, 3, 3, 3),
        ("upscaler", None, "real_cugan"),
    ),
    "RCAN": (
        named("head.0.weight body.0.body.0.body.0.weight tail.0.0.weight", 64, 3, 3, 3),
        ("upscaler", None, "rcan"),
    ),
    "HotShot": (
        named("down_blocks.1.temporal_attentions.0.norm.weight", 640),
        ("motion_module", "sdxl", "base"),
    ),
    "Redux": (named("redux_up.weight redux_down.weight", 4, 4), ("style_model", "flux", "redux")),
    "PuLID of Flux": (named("pulid_ca.0.norm1.weight", 4), ("ip_adapter", "flux", "pulid")),
    "PuLID of XL": (named("id_adapter.mapping.0.weight", 4, 4), ("ip_adapter", "sdxl", "pulid")),
    "autoencoder of Wan": (
        named("decoder.middle.0.residual.0.gamma encoder.conv1.weight", 4, 1, 1, 1),
        ("vae", "wan", "base"),
    ),
    "ControlNet of XLabs for Flux": (
        named("controlnet_blocks.0.weight double_blocks.0.img_attn.proj.weight input_hint_block.0.weight", 4, 4),
        ("controlnet", "flux", "base"),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_others_are_of_one_kind_and_refused(name: str) -> None:
    shapes, expected = NETWORKS[name]
    found = asked(shapes)
    assert [(own.kind, own.family, own.variant) for own in found] == [expected]
    assert not kinds()[found[0].kind].reads(found[0])


def lora(name: str, width: int, down: str = ".lora_A.weight") -> Shapes:
    return {f"{name}{down}": (4, width)}


KOHYA = ".lora_down.weight"
BLOCK = "transformer.transformer_blocks.0."
ADAPTERS: dict[str, tuple[Shapes, str, bool]] = {
    "XL, diffusers' names": (
        lora("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 2048, KOHYA),
        "sdxl",
        True,
    ),
    "XL, outer block of the way up": (lora("unet.up_blocks.0.attentions.0.proj_in", 1280), "sdxl", True),
    "XL, first text encoder": (lora("lora_te1_text_model_encoder_layers_0_mlp_fc1", 768, KOHYA), "sdxl", True),
    "XL's refiner": (lora("lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280, KOHYA), "sdxl", True),
    "1.x, recent text encoder": (lora("text_encoder.encoder.layers.0.self_attn.q_proj", 768), "sd1", True),
    "2.x": (lora("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k", 1024), "sd2", True),
    "3, bare": (lora("transformer_blocks.0.attn.to_q", 1536), "sd3", True),
    "3.5 large": (lora(f"{BLOCK}attn.add_q_proj", 2432) | lora(f"{BLOCK}attn.to_q", 2432), "sd3", True),
    "3, perceptron and text encoder": (
        lora(f"{BLOCK}ff.net.0.proj", 1536) | lora("text_encoder.text_model.encoder.layers.0.mlp.fc1", 768),
        "sd3",
        True,
    ),
    "3, of OneTrainer": (lora("lora_transformer_transformer_blocks_0_attn_to_q", 1536, KOHYA), "sd3", True),
    "3, LoKr": (
        {
            "lycoris_transformer_blocks_0_attn_to_q.lokr_w1": (4, 4),
            "lycoris_transformer_blocks_0_attn_to_q.lokr_w2": (384, 384),
        },
        "sd3",
        True,
    ),
    "3, T5": (lora("lora_te3_encoder_block_0_layer_0_SelfAttention_q", 4096, KOHYA), "sd3", True),
    "Flux": (lora("transformer.single_transformer_blocks.0.attn.to_q", 3072), "flux", False),
    "Flux, double blocks": (lora(f"{BLOCK}attn.to_q", 3072), "flux", False),
    "HunyuanVideo": (lora("transformer.double_blocks.0.img_attn_qkv", 3072), "hunyuan_video", False),
    "Wan": (lora("diffusion_model.blocks.0.self_attn.q", 5120), "wan", False),
    "Wan, kohya's names": (lora("lora_unet_blocks_0_cross_attn_k", 5120, KOHYA), "wan", False),
    "Wan, diffusers' names": (lora("transformer.blocks.0.attn1.to_q", 5120), "wan", False),
    "PixArt": (lora("base_model.model.transformer_blocks.0.attn1.to_q", 1152), "pixart", False),
    "Sana": (lora(f"{BLOCK}attn1.to_q", 2240), "sana", False),
    "LTX-Video": (lora(f"{BLOCK}attn1.to_q", 2048) | lora(f"{BLOCK}attn2.to_k", 2048), "ltx_video", False),
    "Qwen-Image": (lora("transformer_blocks.0.img_mlp.net.2", 12288), "qwen_image", False),
    "Z-Image": (lora("diffusion_model.layers.0.attention.to_q", 3840), "z_image", False),
    "Lumina": (lora("lora_unet_layers_0_attention_qkv", 2304, KOHYA), "lumina", False),
    "AuraFlow": (lora("transformer.joint_transformer_blocks.0.attn.to_q", 3072), "auraflow", False),
    "HiDream": (lora("diffusion_model.double_stream_blocks.0.block.attn1.to_q", 2560), "hidream", False),
    "Stable Cascade": (lora("lora_unet_down_blocks_0_2_attention_attn_in_proj", 2048, KOHYA), "cascade", False),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_tell_their_family(name: str) -> None:
    shapes, family, supported = ADAPTERS[name]
    found = asked(shapes)
    assert [(own.kind, own.family) for own in found] == [("lora", family)]
    assert kinds()["lora"].reads(found[0]) is supported


def test_a_lora_of_a_motion_module_is_no_motion_module() -> None:
    middle = "motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q_lora"
    names = " ".join(f"down_blocks.{level}.{middle}.down.weight" for level in range(4))
    assert [(own.kind, own.family, own.variant) for own in asked(named(names, 32, 320))] == [("lora", "sd1", "motion")]


@pytest.mark.parametrize("ending", ["boft_R.default", "vera_lambda_b.default"])
def test_kinds_of_peft_that_are_not_read_are_named_so(ending: str) -> None:
    name = f"base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.{ending}"
    found = asked(named(name, 96, 28))
    assert [own.kind for own in found] == ["lora"]
    assert not kinds()["lora"].reads(found[0])


def test_loras_with_weights_of_their_ranks_are_named_so() -> None:
    layer = "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora"
    found = asked(named(f"{layer}_A {layer}_B {layer}_E", 4, 768))
    assert [(own.kind, own.variant) for own in found] == [("lora", "adalora")]
    assert kinds()["lora"].reads(found[0])


def test_text_encoders_without_the_outer_level() -> None:
    bare = {name.removeprefix("text_model."): shape for name, shape in published("text_encoder_clip_l_hf").items()}
    assert told(bare) == ("text_encoder", "sd1", "clip_l")


def test_several_text_encoders_in_one_file_belong_to_what_reads_them_together() -> None:
    sd3 = only(published("sd3_medium_comfy"), "text_encoders.")
    assert told(sd3) == ("text_encoder", "sd3", "clip_l")
    assert told(without(sd3, "text_encoders.t5xxl.")) == ("text_encoder", "sdxl", "clip_l")
    assert told(without(sd3, "text_encoders.clip_l.")) == ("text_encoder", "sd3", "clip_g")


def test_half_an_autoencoder_is_named_and_refused() -> None:
    whole = {n.removeprefix("first_stage_model."): s for n, s in published("vae_ldm_sd1_sd2_sdxl").items()}
    half = recognised(Seen(only(whole, "decoder.")))
    assert half is not None
    assert (half.kind, half.family, half.variant, half.notes) == ("vae", "sd1", "half", ("is the decoder alone",))
    assert not kinds()["vae"].reads(half)


def test_the_autoencoder_of_svd_is_not_that_of_stable_diffusion() -> None:
    whole = {n.removeprefix("first_stage_model."): s for n, s in published("vae_ldm_sd1_sd2_sdxl").items()}
    assert told(whole | named("decoder.up.0.block.0.time_stack.in_layers.0.weight", 128)) == ("vae", "svd", "base")


def kohya(modules: str, width: int, down: str = KOHYA) -> Shapes:
    return {f"{name}{down}": (4, width) for name in modules.split()}


UNPUBLISHED = named(
    "lora_unet_up_blocks_0_attentions_0_proj_in.lora_down.weight lora_unet_mid_block_resnets_0_conv1.lora_down.weight",
    *(4, 96, 1, 1),
)
SD1_BASE = "sd_v1"
PARTIAL: dict[str, tuple[Shapes, dict[str, str], str | None, tuple[str, ...]]] = {
    "a small model, whose metadata say 1.x": (UNPUBLISHED, {"ss_base_model_version": SD1_BASE}, "sd1", ()),
    "a small model, whose metadata say nothing": (UNPUBLISHED, {}, None, ()),
    "1.x in single files' names, inner layers only": (
        kohya("lora_unet_input_blocks_7_1_transformer_blocks_0_attn1_to_q", 1280)
        | kohya("lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q", 320),
        {},
        "sd1",
        ("sd2",),
    ),
    "2.x by a linear layer around its transformers": (
        lora("unet.down_blocks.0.attentions.0.proj_in", 320),
        {},
        "sd2",
        (),
    ),
    "XL by the depth of a transformer": (
        kohya("lora_unet_middle_block_1_transformer_blocks_7_ff_net_2", 5120),
        {},
        "sdxl",
        (),
    ),
    "XL's refiner by its widths": (
        kohya("lora_unet_output_blocks_3_1_transformer_blocks_0_attn1_to_q", 1536),
        {},
        "sdxl",
        (),
    ),
    "1.x by a block that XL has not": (
        named("lora_unet_down_blocks_3_resnets_0_conv2.lora_down.weight", 4, 1280, 3, 3),
        {},
        "sd1",
        ("sd2",),
    ),
    "three families, none of which is meant": (
        named("lora_unet_mid_block_resnets_0_conv2.lora_down.weight", 4, 1280, 3, 3),
        {},
        None,
        ("sd1", "sd2", "sdxl"),
    ),
    "three families, one of which is meant": (
        named("lora_unet_mid_block_resnets_0_conv2.lora_down.weight", 4, 1280, 3, 3),
        {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
        "sdxl",
        (),
    ),
    "metadata that the layers belie": (
        kohya("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_v", 2048),
        {"ss_base_model_version": SD1_BASE},
        "sdxl",
        (),
    ),
    "ComfyUI's text encoders of XL": (
        kohya("text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc2", 3072)
        | kohya("text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc2", 5120),
        {},
        "sdxl",
        ("sd3",),
    ),
    "3, PEFT's prefix behind diffusers'": (
        lora("transformer.base_model.model.transformer_blocks.1.attn.to_out.0", 1536),
        {},
        "sd3",
        (),
    ),
    "Qwen-Image, attention only": (lora("transformer.transformer_blocks.41.attn.to_q", 3072), {}, "qwen_image", ()),
    "XL's refiner by the width of its time": (
        kohya("lora_unet_input_blocks_1_0_emb_layers_1 lora_unet_middle_block_0_emb_layers_1", 1536),
        {},
        "sdxl",
        (),
    ),
    "Flux' second text encoder": (kohya("lora_te2_encoder_block_0_layer_0_SelfAttention_q", 4096), {}, "flux", ()),
    "a block that no published model has": (kohya("lora_unet_output_blocks_12_0_emb_layers_1", 1280), {}, None, ()),
    "a LoKr of a kernel": (
        {
            "lora_unet_up_blocks_1_resnets_0_conv2.lokr_w1": (8, 8),
            "lora_unet_up_blocks_1_resnets_0_conv2.lokr_w2_a": (160, 4),
            "lora_unet_up_blocks_1_resnets_0_conv2.lokr_w2_b": (4, 1440),
        },
        {},
        "sd1",
        ("sd2",),
    ),
}


@pytest.mark.parametrize("name", PARTIAL)
def test_a_part_of_an_adapter_tells_whom_it_may_be_for(name: str) -> None:
    shapes, metadata, family, others = PARTIAL[name]
    found = recognised(Seen(shapes, metadata))
    assert found is not None
    assert (found.kind, found.family, found.fits) == ("lora", family, others)
    assert kinds()["lora"].reads(found) is (family in {"sd1", "sd2", "sdxl", "sd3"} or others != ())
