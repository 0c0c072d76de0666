"""The keys that others read and write, typed here by hand: the table is compared with them, not with itself.

What A1111 writes, and the values beside which it leaves a key out: docs/compatibility/infotexts.md.
"""

from __future__ import annotations

import pytest

from atelier.request.infotext import Settings, read, write
from atelier.request.infotext.keys import ALL_KEYS, Key
from atelier.request.infotext.settings import settings_of
from atelier.request.table import FIELDS

A1111 = (
    ("steps", 20, "Steps: 20"),
    ("sampler", "DPM++ 2M", "Sampler: DPM++ 2M"),
    ("scheduler", "Karras", "Schedule type: Karras"),
    ("cfg_scale", 7.0, "CFG scale: 7.0"),
    ("image_cfg_scale", 1.5, "Image CFG scale: 1.5"),
    ("seed", 1, "Seed: 1"),
    ("face_restoration", "CodeFormer", "Face restoration: CodeFormer"),
    ("size", (512, 768), "Size: 512x768"),
    ("model_hash", "6ce0161689", "Model hash: 6ce0161689"),
    ("model", "v1-5-pruned-emaonly", "Model: v1-5-pruned-emaonly"),
    ("fp8_weight", "Enable", "FP8 weight: Enable"),
    ("fp16_lora_cache", True, "Cache FP16 weight for LoRA: True"),
    ("vae_hash", "0123456789", "VAE hash: 0123456789"),
    ("vae", "vae.pt", "VAE: vae.pt"),
    ("variation_seed", 2, "Variation seed: 2"),
    ("variation_strength", 0.5, "Variation seed strength: 0.5"),
    ("seed_resize", (512, 640), "Seed resize from: 512x640"),
    ("denoising_strength", 0.6, "Denoising strength: 0.6"),
    ("conditional_mask_weight", 0.5, "Conditional mask weight: 0.5"),
    ("clip_skip", 2, "Clip skip: 2"),
    ("ensd", 31337, "ENSD: 31337"),
    ("token_merging_ratio", 0.5, "Token merging ratio: 0.5"),
    ("token_merging_ratio_hires", 0.5, "Token merging ratio hr: 0.5"),
    ("init_image_hash", "ab", "Init image hash: ab"),
    ("rng", "CPU", "RNG: CPU"),
    ("ngms", 1.5, "NGMS: 1.5"),
    ("tiling", True, "Tiling: True"),
    ("hires_checkpoint", "other", "Hires checkpoint: other"),
    ("hires_sampler", "Euler", "Hires sampler: Euler"),
    ("hires_prompt", "a dog", "Hires prompt: a dog"),
    ("hires_negative_prompt", "a cat", "Hires negative prompt: a cat"),
    ("hires_scheduler", "Karras", "Hires schedule type: Karras"),
    ("hires_upscale", 1.75, "Hires upscale: 1.75"),
    ("hires_resize", (1024, 1536), "Hires resize: 1024x1536"),
    ("hires_steps", 10, "Hires steps: 10"),
    ("hires_upscaler", "R-ESRGAN 4x+", "Hires upscaler: R-ESRGAN 4x+"),
    ("mask_mode", "Inpaint not masked", "Mask mode: Inpaint not masked"),
    ("mask_blur", 4, "Mask blur: 4"),
    ("inpaint_area", "Only masked", "Inpaint area: Only masked"),
    ("masked_area_padding", 32, "Masked area padding: 32"),
    ("masked_content", "fill", "Masked content: fill"),
    ("resize_mode", "crop", "Resize mode: crop"),
    ("exact_steps", True, "Exact steps: True"),
    ("color_correction", True, "Color correction: True"),
    ("noise_multiplier", 0.9, "Noise multiplier: 0.9"),
    ("extra_noise", 0.1, "Extra noise: 0.1"),
    ("eta", 0.5, "Eta: 0.5"),
    ("eta_ddim", 0.25, "Eta DDIM: 0.25"),
    ("s_churn", 10, "Sigma churn: 10"),
    ("s_tmin", 0.5, "Sigma tmin: 0.5"),
    ("s_tmax", 20, "Sigma tmax: 20"),
    ("s_noise", 1.01, "Sigma noise: 1.01"),
    ("sigma_min", 0.05, "Schedule min sigma: 0.05"),
    ("sigma_max", 12, "Schedule max sigma: 12"),
    ("rho", 5, "Schedule rho: 5"),
    ("discard_penultimate_sigma", True, "Discard penultimate sigma: True"),
    ("sgm_noise_multiplier", True, "SGM noise multiplier: True"),
    ("beta_alpha", 0.5, "Beta schedule alpha: 0.5"),
    ("beta_beta", 0.7, "Beta schedule beta: 0.7"),
    ("unipc_variant", "bh2", "UniPC variant: bh2"),
    ("unipc_skip_type", "logSNR", "UniPC skip type: logSNR"),
    ("unipc_order", 2, "UniPC order: 2"),
    ("unipc_lower_order_final", False, "UniPC lower order final: False"),
    ("pad_conds", True, "Pad conds: True"),
    ("pad_conds_v0", True, "Pad conds v0: True"),
    ("emphasis", "No norm", "Emphasis: No norm"),
    ("ti_hashes", "e", "TI hashes: e"),
    ("lora_hashes", "x", "Lora hashes: x"),
    ("refiner", "sdxl", "Refiner: sdxl"),
    ("refiner_switch_at", 0.8, "Refiner switch at: 0.8"),
    ("hires_refiner", "both passes", "Hires refiner: both passes"),
    ("refiner_by_steps", True, "Refiner switch by sampling steps: True"),
    ("vae_encoder", "TAESD", "VAE Encoder: TAESD"),
    ("vae_decoder", "TAESD", "VAE Decoder: TAESD"),
    ("noise_schedule", "Zero Terminal SNR", "Noise Schedule: Zero Terminal SNR"),
    ("downcast_alphas", True, "Downcast alphas_cumprod: True"),
    ("old_timelines", True, "Old prompt editing timelines: True"),
    ("ngms_all_steps", True, "NGMS all steps: True"),
    ("skip_early_cfg", 0.1, "Skip Early CFG: 0.1"),
    ("dynamic_thresholding", True, "Dynamic thresholding enabled: True"),  # an extension
    ("mimic_scale", 7, "Mimic scale: 7"),
    ("mimic_phi", 0.3, "Interpolate Phi: 0.3"),
    ("mimic_percentile", 100, "Threshold percentile: 100"),
    ("pag_active", True, "PAG Active: True"),  # an extension
    ("pag_scale", 1, "PAG Scale: 1"),
    ("pag_layers", "middle,up.1", 'PAG layers: "middle,up.1"'),
    ("freeu_version", "1", "FreeU Version: 1"),  # an extension
    ("text_encoders", "a + b", "Text encoder: a + b"),
    ("noise_level", 20, "Noise level: 20"),
    ("original_size", (640, 480), "Original size: 640x480"),
    ("crop_top", 8, "Crop top: 8"),
    ("crop_left", 16, "Crop left: 16"),
    ("target_size", (1024, 768), "Target size: 1024x768"),
    ("negative_original_size", (512, 384), "Negative original size: 512x384"),
    ("negative_crop_top", 1, "Negative crop top: 1"),
    ("negative_crop_left", 2, "Negative crop left: 2"),
    ("negative_target_size", (256, 128), "Negative target size: 256x128"),
    ("aesthetic_score", 7.5, "Aesthetic score: 7.5"),
    ("negative_aesthetic_score", 3.0, "Negative aesthetic score: 3.0"),
    ("soft_inpainting", True, "Soft inpainting enabled: True"),
    ("soft_inpainting_schedule_bias", 1, "Soft inpainting schedule bias: 1"),
    ("soft_inpainting_preservation_strength", 0.5, "Soft inpainting preservation strength: 0.5"),
    ("soft_inpainting_transition_contrast_boost", 4, "Soft inpainting transition contrast boost: 4"),
    ("soft_inpainting_mask_influence", 0, "Soft inpainting mask influence: 0"),
    ("soft_inpainting_difference_threshold", 0.5, "Soft inpainting difference threshold: 0.5"),
    ("soft_inpainting_difference_contrast", 2, "Soft inpainting difference contrast: 2"),
    ("hypertile", True, "Hypertile U-Net: True"),
    ("hypertile_second_pass", True, "Hypertile U-Net second pass: True"),
    ("hypertile_vae", True, "Hypertile VAE: True"),
    ("sd_upscale_overlap", 32, "SD upscale overlap: 32"),
    ("sd_upscale_upscaler", "Lanczos", "SD upscale upscaler: Lanczos"),
    ("sd_upscale_factor", 3, "SD upscale factor: 3"),
    ("final_denoising_strength", 0.5, "Final denoising strength: 0.5"),
    ("denoising_curve", "Linear", "Denoising curve: Linear"),
    ("script", "X/Y/Z plot", "Script: X/Y/Z plot"),
    ("x_type", "Steps", "X Type: Steps"),
    ("x_values", "1", "X Values: 1"),
    ("fixed_x_values", "1", "Fixed X Values: 1"),
    ("y_type", "Seed", "Y Type: Seed"),
    ("y_values", "1", "Y Values: 1"),
    ("fixed_y_values", "1", "Fixed Y Values: 1"),
    ("z_type", "Nothing", "Z Type: Nothing"),
    ("z_values", "1", "Z Values: 1"),
    ("fixed_z_values", "1", "Fixed Z Values: 1"),
    ("version", "v1.10.1", "Version: v1.10.1"),
    ("user", "me", "User: me"),
    ("batch_size", 2, "Batch size: 2"),
    ("batch_position", 1, "Batch pos: 1"),
)
OTHERS = (
    ("distilled_cfg_scale", 3.5, "Distilled CFG Scale: 3.5"),  # Forge
    ("shift", 3, "Shift: 3"),  # Forge, Draw Things
    ("hires_cfg_scale", 4.5, "Hires CFG Scale: 4.5"),  # Forge
    ("cfg_rescale", 0.7, "CFG rescale: 0.7"),  # SD.Next
    ("hires_denoising_strength", 0.4, "Hires strength: 0.4"),  # SD.Next
    ("freeu_enabled", True, "freeu_enabled: True"),  # Forge
    ("freeu_b1", 1.3, "freeu_b1: 1.3"),
    ("freeu_b2", 1.4, "freeu_b2: 1.4"),
    ("freeu_s1", 0.9, "freeu_s1: 0.9"),
    ("freeu_s2", 0.2, "freeu_s2: 0.2"),
    ("sag_enabled", True, "sag_enabled: True"),
    ("sag_scale", 0.5, "sag_scale: 0.5"),
    ("sag_blur_sigma", 2, "sag_blur_sigma: 2"),
    ("template", "a", "Template: a"),  # Dynamic Prompts
    ("negative_template", "b", "Negative Template: b"),
    ("outpaint", "left=64", "Outpaint: left=64"),  # Atelier, from here on
    ("dtype", "fp32", "Dtype: fp32"),
    ("device", "cpu", "Device: cpu"),
    ("libraries", "torch 2.13.0", "Libraries: torch 2.13.0"),
    ("apg_eta", 0.5, "APG eta: 0.5"),
    ("apg_norm_threshold", 15, "APG norm threshold: 15"),
    ("apg_momentum", -0.5, "APG momentum: -0.5"),
    ("perp_neg_scale", 1, "Perp-Neg scale: 1"),
    ("slg_scale", 2.5, "SLG scale: 2.5"),
    ("cfg_interval_low", 0.3, "CFG interval low sigma: 0.3"),
    ("cfg_interval_high", 5, "CFG interval high sigma: 5"),
    ("clip_guidance_scale", 100, "CLIP guidance scale: 100"),
    ("pixel_hash", "ab", "Pixel hash: ab"),
    ("controls", "canny:a.png:1 low=3", 'Controls: "canny:a.png:1 low=3"'),
    ("references", "a.png:0.5", 'References: "a.png:0.5"'),
    ("faces", "a.png:0.5 which=2", 'Faces: "a.png:0.5 which=2"'),
    ("regions", "box=0 0: a", 'Regions: "box=0 0: a"'),
    ("region_method", "attention", "Region method: attention"),
    ("region_ground", 0.2, "Region ground: 0.2"),
    ("tile", "x", "Tiling axes: x"),
    ("view_method", "mixture", "Views: mixture"),
    ("view_width", 512, "View width: 512"),
    ("view_height", 768, "View height: 768"),
    ("view_overlap", 64, "View overlap: 64"),
    ("vae_strips", "always", "VAE in strips: always"),
    ("postprocess_upscale_by", 2, "Postprocess upscale by: 2"),
    ("postprocess_upscale_to", (512, 768), "Postprocess upscale to: 512x768"),
    ("postprocess_crop_to", (512, 768), "Postprocess crop to: 512x768"),
    ("postprocess_upscaler", "Lanczos", "Postprocess upscaler: Lanczos"),
    ("postprocess_upscaler_2", "Nearest", "Postprocess upscaler 2: Nearest"),
    ("postprocess_upscaler_2_visibility", 0.5, "Postprocess upscaler 2 visibility: 0.5"),
)
ALIASES = {
    "Sampler sigma": "scheduler",
    "Guidance Scale": "cfg_scale",
    "Guidance rescale": "cfg_rescale",
    "Variation strength": "variation_strength",
    "Clip Skip": "clip_skip",
    "CLIP skip": "clip_skip",
    "Hires scale": "hires_upscale",
    "Hires CFG scale": "hires_cfg_scale",
    "SGM noise multplier": "sgm_noise_multiplier",
    "Beta scheduler alpha": "beta_alpha",
    "Beta scheduler beta": "beta_beta",
    "SAG Guidance Enabled": "sag_enabled",
    "SAG Guidance Scale": "sag_scale",
    "SAG Blur Sigma": "sag_blur_sigma",
    "dynthres_enabled": "dynamic_thresholding",
    "dynthres_mimic_scale": "mimic_scale",
    "dynthres_threshold_percentile": "mimic_percentile",
    "dynthres_interpolate_phi": "mimic_phi",
}
LEFT_OUT = {
    **dict.fromkeys(("original_size", "target_size", "negative_original_size", "negative_target_size"), (0, 0)),
    "crop_top": 0,
    "crop_left": 0,
    "aesthetic_score": 6.0,
    "negative_aesthetic_score": 2.5,
    "cfg_rescale": 0.0,
    "fp8_weight": "Disable",
    "fp16_lora_cache": False,
    "variation_strength": 0.0,
    "seed_resize": (0, 0),
    "clip_skip": 1,
    "ensd": 0,
    "token_merging_ratio": 0.0,
    "token_merging_ratio_hires": 0.0,
    "rng": "GPU",
    "ngms": 0.0,
    "tiling": False,
    "hires_checkpoint": "Use same checkpoint",
    "hires_sampler": "Use same sampler",
    "hires_scheduler": "Use same scheduler",
    "hires_resize": (0, 0),
    "hires_steps": 0,
    "mask_mode": "Inpaint masked",
    "inpaint_area": "Whole picture",
    "masked_content": "original",
    "resize_mode": "stretch",
    "exact_steps": False,
    "color_correction": False,
    "soft_inpainting": False,
    "noise_multiplier": 1.0,
    "extra_noise": 0.0,
    "eta_ddim": 0.0,
    "s_churn": 0.0,
    "s_tmin": 0.0,
    "s_tmax": 0.0,
    "s_noise": 1.0,
    "sigma_min": 0.0,
    "sigma_max": 0.0,
    "rho": 0.0,
    "sgm_noise_multiplier": False,
    "ngms_all_steps": False,
    "skip_early_cfg": 0.0,
    "pag_scale": 0.0,
    "pag_layers": "auto",
    "sag_scale": 0.0,
    "mimic_scale": 0.0,
    "mimic_phi": 1.0,
    "freeu_version": "2",
    "apg_eta": 1.0,
    "apg_norm_threshold": 0.0,
    "apg_momentum": 0.0,
    "perp_neg_scale": 0.0,
    "slg_scale": 0.0,
    "cfg_interval_low": 0.0,
    "cfg_interval_high": 0.0,
    "clip_guidance_scale": 0.0,
    "pad_conds": False,
    "pad_conds_v0": False,
    "emphasis": "Original",
    "old_timelines": False,
    "downcast_alphas": False,
    "noise_schedule": "Default",
    "refiner": "None",
    "hires_refiner": "second pass",
    "refiner_by_steps": False,
    "vae_encoder": "Full",
    "vae_decoder": "Full",
    "hypertile": False,
    "hypertile_second_pass": False,
    "hypertile_vae": False,
    "batch_size": 1,
    "batch_position": 0,
    "region_method": "latent",
    "tile": "xy",
    "vae_strips": "auto",
    "postprocess_upscale_to": (0, 0),
    "sd_upscale_factor": 2.0,
}
LIMITS = {
    "Distilled CFG Scale": (0, 100),
    "Shift": (0, 100),
    "Size": (1, 65_536),
    "Token merging ratio": (0, 1),
    "Token merging ratio hr": (0, 1),
    "Final denoising strength": (0, 1),
    "Postprocess crop to": (1, 65_536),
    "Batch pos": (0, 10_000),
}
"""Of the keys that say what no request can ask for."""
WITHOUT_KEY = {
    *("prompt", "negative_prompt", "width", "height", "batch_count", "output"),  # said otherwise, or not at all
    *("styles", "choices", "lenient", "image", "mask", "depth"),
}


def test_every_key_is_typed_here():
    assert sorted(field for field, _, _ in (*A1111, *OTHERS)) == sorted(key.field for key in ALL_KEYS)
    assert {f.name for f in FIELDS.values() if f.infotext is None} == WITHOUT_KEY


@pytest.mark.parametrize(("field", "value", "text"), [*A1111, *OTHERS])
def test_it_is_written_and_read_as_others_do(field: str, value: object, text: str):
    core = {"steps": 20, "sampler": "Euler", "seed": 3}
    line = write(Settings(**{"prompt": "p", **core, field: value})).split("\n")[1]
    assert text in line.split(", ")
    reading = settings_of(read(f"p\nSteps: 20, Sampler: Euler, Seed: 3, {text}"))
    assert (getattr(reading.settings, field), reading.lies, reading.warnings) == (value, (), ())


def test_the_keys_stand_in_the_order_of_a1111():
    """As docs/compatibility/infotexts.md has it, for those that a request most often writes."""
    names = [key.name for key in ALL_KEYS]
    order = "Steps,Sampler,Schedule type,CFG scale,Seed,Size,Model hash,Model,VAE hash,VAE,Variation seed,"
    order += (
        "Variation seed strength,Seed resize from,Denoising strength,Clip skip,ENSD,RNG,NGMS,Hires upscale,Eta,Version"
    )
    assert sorted(order.split(","), key=names.index) == order.split(",")


def test_other_names_of_keys_are_read():
    assert {alias: key.field for key in ALL_KEYS for alias in key.aliases} == ALIASES


def test_what_is_as_usual_is_left_out():
    assert {key.field: key.neutral for key in ALL_KEYS if key.neutral is not None} == LEFT_OUT


@pytest.mark.parametrize("field", LEFT_OUT)
def test_what_is_as_usual_is_not_written_and_read_as_nothing(field: str):
    value, key = LEFT_OUT[field], next(key for key in ALL_KEYS if key.field == field)
    text = f"{value[0]}x{value[1]}" if isinstance(value, tuple) else str(value)
    assert isinstance(key.neutral, bool) is isinstance(value, bool)
    assert key.name not in write(Settings(**{"prompt": "p", "steps": 20, "seed": 3, field: value}))
    reading = settings_of(read(f"p\nSteps: 20, Sampler: Euler, Seed: 3, {key.name}: {text}"))
    assert (getattr(reading.settings, field), reading.lies, reading.warnings) == (None, (), ())


def test_nothing_is_said_of_itself():
    empty = Settings()
    assert (empty.prompt, empty.negative_prompt, empty.extras, empty.given()) == ("", "", (), {})
    assert {getattr(empty, key.field) for key in ALL_KEYS} == {None}


def test_limits():
    found = {key.name: (key.low, key.high) for key in ALL_KEYS if key.field not in FIELDS}
    assert {name: limits for name, limits in found.items() if limits != (None, None)} == LIMITS


@pytest.mark.parametrize("name", LIMITS)
def test_what_lies_beyond_the_limits_is_a_lie(name: str):
    low, high = LIMITS[name]
    is_size = name in {"Size", "Postprocess crop to"}
    ways = [f"{n}x{n}" if is_size else str(n) for n in (low, high, low - 1, high + 1)]
    if is_size:
        ways[2] = "64x0"
    lies = [settings_of(read(f"p\nSteps: 20, Sampler: Euler, Seed: 3, {name}: {text}")).lies for text in ways]
    assert [len(found) for found in lies] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [("Seed", -(2**63), 2**64 - 1), ("Variation seed", -(2**63), 2**64 - 1), ("Batch size", 1, 10_000)],
)
def test_texts_may_hold_more_than_a_request(key: str, low: float, high: float):
    found: Key = next(k for k in ALL_KEYS if k.name == key)
    assert (found.low, found.high) == (low, high)
