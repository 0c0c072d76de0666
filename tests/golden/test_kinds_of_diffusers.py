"""Networks that diffusers and transformers build are told by their names and shapes: ours, and strangers by name.

Those of ours have their true shapes; of others only the names matter, so that most have two layers. On the meta device,
where nothing takes memory.
"""

from __future__ import annotations

import functools
from typing import Any

import diffusers
import pytest
import torch
import transformers

from atelier.checkpoints.kind import Identity, Seen, kinds

Told = tuple[str, str | None, str | None, bool]
"""Kind, family, variant, and whether it can be used here."""

XL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
XL_CONTROL = {key: value for key, value in XL.items() if key != "up_block_types"}
SD2: dict[str, Any] = {
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
SMALL_SD: dict[str, Any] = {"cross_attention_dim": 768, "layers_per_block": 1, "mid_block_type": None}
KANDINSKY: dict[str, Any] = {
    "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
    "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "cross_attention_dim": 768,
    "attention_head_dim": 64,
    "layers_per_block": 1,
}
KANDINSKY_22 = KANDINSKY | {
    "encoder_hid_dim": 1280,
    "encoder_hid_dim_type": "image_proj",
    "addition_embed_type": "image",
    "out_channels": 8,
}
DEEPFLOYD = KANDINSKY | {
    "in_channels": 3,
    "out_channels": 6,
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
    "addition_embed_type": "text",
}
KOLORS = XL | {
    "projection_class_embeddings_input_dim": 5632,
    "encoder_hid_dim": 4096,
    "encoder_hid_dim_type": "text_proj",
}
MMDIT: dict[str, Any] = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 2,
    "attention_head_dim": 64,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
}
HALVES: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
TWO = {"num_layers": 2}
BOTH = {"num_layers": 2, "num_single_layers": 2}

DIFFUSERS: dict[str, tuple[str, dict[str, Any], Told]] = {
    "1.x to edit": (
        "UNet2DConditionModel",
        {"cross_attention_dim": 768, "in_channels": 8},
        ("unet", "sd1", "instruct_pix2pix", True),
    ),
    "1.x that reads guidance": (
        "UNet2DConditionModel",
        {"cross_attention_dim": 768, "time_cond_proj_dim": 256},
        ("unet", "sd1", "lcm", True),
    ),
    "small SD": ("UNet2DConditionModel", SMALL_SD, ("unet", "sd1", "distilled", False)),
    "small SD that reads guidance": (
        "UNet2DConditionModel",
        SMALL_SD | {"time_cond_proj_dim": 256},
        ("unet", "sd1", "distilled", False),
    ),
    "unCLIP": (
        "UNet2DConditionModel",
        SD2 | {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 2048},
        ("unet", "sd2", "unclip", False),
    ),
    "XL inpainting": ("UNet2DConditionModel", XL | {"in_channels": 9}, ("unet", "sdxl", "inpainting", True)),
    "Vega": (
        "UNet2DConditionModel",
        XL | {"transformer_layers_per_block": [1, 1, 2]},
        ("unet", "sdxl", "distilled", False),
    ),
    "Kolors": ("UNet2DConditionModel", KOLORS, ("unet", "kolors", "base", False)),
    "Kandinsky 2.2": ("UNet2DConditionModel", KANDINSKY_22, ("unet", "kandinsky", "base", False)),
    "Kandinsky 3": ("Kandinsky3UNet", {}, ("unet", "kandinsky", "base", False)),
    "Kandinsky 5": (
        "Kandinsky5Transformer3DModel",
        {"num_text_blocks": 1, "num_visual_blocks": 1},
        ("unet", "kandinsky", "base", False),
    ),
    "DeepFloyd": ("UNet2DConditionModel", DEEPFLOYD, ("unet", "deepfloyd", "base", False)),
    "videos of ModelScope": ("UNet3DConditionModel", {}, ("unet", "modelscope", "base", False)),
    "AnimateDiff's whole U-Net": (
        "UNetMotionModel",
        {"cross_attention_dim": 768},
        ("unet", "sd1", "motion", False),
    ),
    "Stable Video Diffusion": ("UNetSpatioTemporalConditionModel", {}, ("unet", "svd", "base", False)),
    "3.5 medium": (
        "SD3Transformer2DModel",
        MMDIT
        | {"num_attention_heads": 24, "caption_projection_dim": 1536}
        | {"qk_norm": "rms_norm", "dual_attention_layers": (0,)},
        ("unet", "sd3", "3.5-medium", True),
    ),
    "Flux to fill": (
        "FluxTransformer2DModel",
        BOTH | {"guidance_embeds": True, "in_channels": 384},
        ("unet", "flux", "fill", False),
    ),
    "Flux 2": ("Flux2Transformer2DModel", BOTH, ("unet", "flux2", "base", False)),
    "Chroma": ("ChromaTransformer2DModel", BOTH, ("unet", "chroma", "base", False)),
    "Bria": ("BriaTransformer2DModel", BOTH, ("unet", "bria", "base", False)),
    "PixArt": ("PixArtTransformer2DModel", TWO | {"caption_channels": 4096}, ("unet", "pixart", "base", False)),
    "AuraFlow": (
        "AuraFlowTransformer2DModel",
        {"num_mmdit_layers": 2, "num_single_dit_layers": 2},
        ("unet", "auraflow", "base", False),
    ),
    "Lumina 2": ("Lumina2Transformer2DModel", TWO, ("unet", "lumina", "base", False)),
    "Z-Image": ("ZImageTransformer2DModel", {"n_layers": 2}, ("unet", "z_image", "base", False)),
    "Sana": ("SanaTransformer2DModel", TWO, ("unet", "sana", "base", False)),
    "Qwen-Image": ("QwenImageTransformer2DModel", TWO, ("unet", "qwen_image", "base", False)),
    "Wan": ("WanTransformer3DModel", TWO, ("unet", "wan", "base", False)),
    "HunyuanVideo": ("HunyuanVideoTransformer3DModel", BOTH, ("unet", "hunyuan_video", "base", False)),
    "HunyuanImage": ("HunyuanImageTransformer2DModel", BOTH, ("unet", "hunyuan_image", "base", False)),
    "LTX-Video": ("LTXVideoTransformer3DModel", TWO, ("unet", "ltx_video", "base", False)),
    "Mochi": ("MochiTransformer3DModel", TWO, ("unet", "mochi", "base", False)),
    "CogVideoX": ("CogVideoXTransformer3DModel", TWO, ("unet", "cogvideox", "base", False)),
    "CogView 4": ("CogView4Transformer2DModel", TWO, ("unet", "cogview", "base", False)),
    "Cosmos": ("CosmosTransformer3DModel", TWO, ("unet", "cosmos", "base", False)),
    "DiT": ("DiTTransformer2DModel", TWO, ("unet", "dit", "base", False)),
    "Stable Audio": ("StableAudioDiTModel", TWO, ("unet", "stable_audio", "base", False)),
    "a prior of unCLIP": ("PriorTransformer", TWO, ("unet", "unclip_prior", "base", False)),
    "aMUSEd": ("UVit2DModel", {"num_hidden_layers": 2}, ("unet", "amused", "base", False)),
    "autoencoder of 1.x": ("AutoencoderKL", HALVES, ("vae", "sd1", "base", True)),
    "autoencoder of 3": (
        "AutoencoderKL",
        HALVES | {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False},
        ("vae", "sd3", "base", True),
    ),
    "asymmetric autoencoder": (
        "AsymmetricAutoencoderKL",
        {
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "down_block_out_channels": (128, 256, 512, 512),
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "up_block_out_channels": (192, 384, 768, 768),
        },
        ("vae", "sd1", "asymmetric", False),
    ),
    "consistency decoder": ("ConsistencyDecoderVAE", {}, ("vae", "sd1", "consistency", False)),
    "autoencoder of SVD": (
        "AutoencoderKLTemporalDecoder",
        {
            "block_out_channels": (128, 256, 512, 512),
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "layers_per_block": 2,
        },
        ("vae", "svd", "base", False),
    ),
    "autoencoder of Wan": ("AutoencoderKLWan", {}, ("vae", "wan", "base", False)),
    "autoencoder of CogVideoX": ("AutoencoderKLCogVideoX", {}, ("vae", "cogvideox", "base", False)),
    "autoencoder of HunyuanVideo": ("AutoencoderKLHunyuanVideo", {}, ("vae", "hunyuan_video", "base", False)),
    "autoencoder of LTX-Video": ("AutoencoderKLLTXVideo", {}, ("vae", "ltx_video", "base", False)),
    "autoencoder of Mochi": ("AutoencoderKLMochi", {}, ("vae", "mochi", "base", False)),
    "autoencoder of Flux 2": ("AutoencoderKLFlux2", {}, ("vae", "flux2", "base", False)),
    "autoencoder of Allegro": ("AutoencoderKLAllegro", {}, ("vae", "allegro", "base", False)),
    "autoencoder of Cosmos": ("AutoencoderKLCosmos", {}, ("vae", "cosmos", "base", False)),
    "TAESD": ("AutoencoderTiny", {}, ("tiny_vae", "sd1", "both", True)),
    "TAESD3": ("AutoencoderTiny", {"latent_channels": 16}, ("tiny_vae", "sd3", "both", True)),
    "AnimateDiff": ("MotionAdapter", {}, ("motion_module", "sd1", "base", False)),
    "AnimateDiff of XL": (
        "MotionAdapter",
        {"block_out_channels": (320, 640, 1280), "use_motion_mid_block": False},
        ("motion_module", "sdxl", "base", False),
    ),
    "AnimateDiff's ControlNet": (
        "SparseControlNetModel",
        {"cross_attention_dim": 768},
        ("controlnet", "sd1", "sparse", False),
    ),
    "ControlNet-XS": ("ControlNetXSAdapter", {"cross_attention_dim": 1024}, ("controlnet", "sd2", "xs", False)),
    "ControlNet of XL, small": (
        "ControlNetModel",
        XL_CONTROL
        | {"down_block_types": ("DownBlock2D",) * 3, "transformer_layers_per_block": [1, 1, 1]}
        | {"mid_block_type": "UNetMidBlock2D"},
        ("controlnet", "sdxl", "small", True),
    ),
    "ControlNet of XL, middle": (
        "ControlNetModel",
        XL_CONTROL | {"transformer_layers_per_block": [0, 0, 1]},
        ("controlnet", "sdxl", "small", True),
    ),
    "ControlNet of Flux": (
        "FluxControlNetModel",
        {"num_layers": 1, "num_single_layers": 1, "num_mode": 10},
        ("controlnet", "flux", "union", False),
    ),
    "ControlNet of Qwen-Image": ("QwenImageControlNetModel", TWO, ("controlnet", "qwen_image", "base", False)),
    "ControlNet of Sana": ("SanaControlNetModel", TWO, ("controlnet", "sana", "base", False)),
    "ControlNet of 3.5 large": (
        "SD3ControlNetModel",
        MMDIT
        | {"num_attention_heads": 38, "caption_projection_dim": 2432, "joint_attention_dim": None}
        | {"pos_embed_type": None, "use_pos_embed": False},
        ("controlnet", "sd3", "3.5-large", True),
    ),
    "ControlNet of 3 with a mask": (
        "SD3ControlNetModel",
        MMDIT | {"num_attention_heads": 24, "caption_projection_dim": 1536, "extra_conditioning_channels": 1},
        ("controlnet", "sd3", "mask", False),
    ),
    "light T2I-Adapter": (
        "T2IAdapter",
        {"adapter_type": "light_adapter", "channels": [320, 640, 1280], "num_res_blocks": 4},
        ("t2i_adapter", "sd1", "light", True),
    ),
}

CLIP_L = transformers.CLIPTextConfig(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
)
CLIP_H = transformers.CLIPTextConfig(
    hidden_size=1024, intermediate_size=4096, num_hidden_layers=2, num_attention_heads=16
)
T5 = transformers.T5Config(
    d_model=4096, d_kv=64, d_ff=10240, num_layers=2, num_heads=64, feed_forward_proj="gated-gelu"
)
UMT5 = transformers.UMT5Config(
    d_model=4096, d_kv=64, d_ff=10240, num_layers=2, num_heads=64, vocab_size=256384, feed_forward_proj="gated-gelu"
)
TRANSFORMERS: dict[str, tuple[str, Any, Told]] = {
    "CLIP-L": ("CLIPTextModel", CLIP_L, ("text_encoder", "sd1", "clip_l", True)),
    "CLIP-L with projection": ("CLIPTextModelWithProjection", CLIP_L, ("text_encoder", "sd1", "clip_l", True)),
    "OpenCLIP-H": ("CLIPTextModel", CLIP_H, ("text_encoder", "sd2", "clip_h", True)),
    "T5 XXL": ("T5EncoderModel", T5, ("text_encoder", "sd3", "t5xxl", True)),
    "T5 XXL with its decoder": (
        "T5ForConditionalGeneration",
        T5,
        ("text_encoder", "sd3", "t5xxl_whole", False),
    ),
    "T5 of many languages": ("UMT5EncoderModel", UMT5, ("text_encoder", "wan", "umt5xxl", False)),
    "Gemma": (
        "Gemma2Model",
        transformers.Gemma2Config(num_hidden_layers=2),
        ("text_encoder", None, "language_model", False),
    ),
    "Qwen": (
        "Qwen2ForCausalLM",
        transformers.Qwen2Config(num_hidden_layers=2),
        ("text_encoder", None, "language_model", False),
    ),
    "BERT": ("BertModel", transformers.BertConfig(num_hidden_layers=2), ("text_encoder", None, "bert", False)),
    "a vision tower": (
        "CLIPVisionModelWithProjection",
        transformers.CLIPVisionConfig(hidden_size=1280, num_hidden_layers=2, num_attention_heads=16),
        ("image_encoder", None, "vit_h", True),
    ),
    "DINO": (
        "Dinov2Model",
        transformers.Dinov2Config(num_hidden_layers=2),
        ("image_encoder", None, "dinov2", False),
    ),
}


@functools.cache
def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        if name in DIFFUSERS:
            class_name, settings, _ = DIFFUSERS[name]
            network = getattr(diffusers, class_name)(**settings)
        else:
            class_name, config, _ = TRANSFORMERS[name]
            network = getattr(transformers, class_name)(config)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def told(own: Identity) -> Told:
    return own.kind, own.family, own.variant, kinds()[own.kind].reads(own)


@pytest.mark.parametrize("name", [*DIFFUSERS, *TRANSFORMERS])
def test_what_others_build_is_of_one_kind(name: str) -> None:
    seen = Seen(shapes_of(name))
    expected = (DIFFUSERS | TRANSFORMERS)[name][2]
    assert [told(own) for kind in kinds().values() if (own := kind.recognise(seen)) is not None] == [expected]
