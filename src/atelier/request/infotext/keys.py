"""Every key of an infotext: what it is called, what kind of value it has, which field of Settings it fills.

One table, read from left to right when an infotext is written and from right to left when one is read. What a request
can say has its key in `request.fields`; the keys of other things are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, cast

from atelier.request.fields import MAX_SIDE
from atelier.request.table import FIELDS

Kind = Literal["int", "float", "text", "flag", "size"]
Value = int | float | str | bool | tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an infotext says, typed. None: it says nothing, or what is the neutral value anyhow.

    extras: the pairs that no field takes, in order, as text.
    """

    prompt: str = ""
    negative_prompt: str = ""
    steps: int | None = None
    sampler: str | None = None
    scheduler: str | None = None
    cfg_scale: float | None = None
    distilled_cfg_scale: float | None = None
    image_cfg_scale: float | None = None
    noise_level: int | None = None
    cfg_rescale: float | None = None
    shift: float | None = None
    seed: int | None = None
    face_restoration: str | None = None
    size: tuple[int, int] | None = None
    model_hash: str | None = None
    model: str | None = None
    fp8_weight: str | None = None
    fp16_lora_cache: bool | None = None
    vae_hash: str | None = None
    vae: str | None = None
    text_encoders: str | None = None
    variation_seed: int | None = None
    variation_strength: float | None = None
    seed_resize: tuple[int, int] | None = None
    denoising_strength: float | None = None
    conditional_mask_weight: float | None = None
    clip_skip: int | None = None
    ensd: int | None = None
    token_merging_ratio: float | None = None
    token_merging_ratio_hires: float | None = None
    init_image_hash: str | None = None
    rng: str | None = None
    ngms: float | None = None
    tiling: bool | None = None
    hires_checkpoint: str | None = None
    hires_sampler: str | None = None
    hires_scheduler: str | None = None
    hires_prompt: str | None = None
    hires_negative_prompt: str | None = None
    hires_upscale: float | None = None
    hires_resize: tuple[int, int] | None = None
    hires_steps: int | None = None
    hires_upscaler: str | None = None
    hires_cfg_scale: float | None = None
    hires_denoising_strength: float | None = None
    mask_mode: str | None = None
    mask_blur: float | None = None
    inpaint_area: str | None = None
    masked_area_padding: int | None = None
    masked_content: str | None = None
    outpaint: str | None = None
    soft_inpainting: bool | None = None
    soft_inpainting_schedule_bias: float | None = None
    soft_inpainting_preservation_strength: float | None = None
    soft_inpainting_transition_contrast_boost: float | None = None
    soft_inpainting_mask_influence: float | None = None
    soft_inpainting_difference_threshold: float | None = None
    soft_inpainting_difference_contrast: float | None = None
    noise_multiplier: float | None = None
    extra_noise: float | None = None
    resize_mode: str | None = None
    exact_steps: bool | None = None
    color_correction: bool | None = None
    original_size: tuple[int, int] | None = None
    crop_top: int | None = None
    crop_left: int | None = None
    target_size: tuple[int, int] | None = None
    negative_original_size: tuple[int, int] | None = None
    negative_crop_top: int | None = None
    negative_crop_left: int | None = None
    negative_target_size: tuple[int, int] | None = None
    aesthetic_score: float | None = None
    negative_aesthetic_score: float | None = None
    controls: str | None = None
    references: str | None = None
    faces: str | None = None
    regions: str | None = None
    region_method: str | None = None
    region_ground: float | None = None
    tile: str | None = None
    view_method: str | None = None
    view_width: int | None = None
    view_height: int | None = None
    view_overlap: int | None = None
    vae_strips: str | None = None
    postprocess_upscale_by: float | None = None
    postprocess_upscale_to: tuple[int, int] | None = None
    postprocess_crop_to: tuple[int, int] | None = None
    postprocess_upscaler: str | None = None
    postprocess_upscaler_2: str | None = None
    postprocess_upscaler_2_visibility: float | None = None
    eta: float | None = None
    eta_ddim: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None
    discard_penultimate_sigma: bool | None = None
    sgm_noise_multiplier: bool | None = None
    beta_alpha: float | None = None
    beta_beta: float | None = None
    unipc_variant: str | None = None
    unipc_skip_type: str | None = None
    unipc_order: int | None = None
    unipc_lower_order_final: bool | None = None
    ngms_all_steps: bool | None = None
    skip_early_cfg: float | None = None
    pag_active: bool | None = None
    sag_enabled: bool | None = None
    dynamic_thresholding: bool | None = None
    freeu_enabled: bool | None = None
    pag_scale: float | None = None
    pag_layers: str | None = None
    sag_scale: float | None = None
    sag_blur_sigma: float | None = None
    apg_eta: float | None = None
    apg_norm_threshold: float | None = None
    apg_momentum: float | None = None
    mimic_scale: float | None = None
    mimic_percentile: float | None = None
    mimic_phi: float | None = None
    perp_neg_scale: float | None = None
    slg_scale: float | None = None
    freeu_b1: float | None = None
    freeu_b2: float | None = None
    freeu_s1: float | None = None
    freeu_s2: float | None = None
    freeu_version: str | None = None
    cfg_interval_low: float | None = None
    cfg_interval_high: float | None = None
    clip_guidance_scale: float | None = None
    pad_conds: bool | None = None
    pad_conds_v0: bool | None = None
    emphasis: str | None = None
    old_timelines: bool | None = None
    downcast_alphas: bool | None = None
    noise_schedule: str | None = None
    refiner: str | None = None
    refiner_switch_at: float | None = None
    hires_refiner: str | None = None
    refiner_by_steps: bool | None = None
    vae_encoder: str | None = None
    vae_decoder: str | None = None
    hypertile: bool | None = None
    hypertile_second_pass: bool | None = None
    hypertile_vae: bool | None = None
    sd_upscale_overlap: int | None = None
    sd_upscale_upscaler: str | None = None
    sd_upscale_factor: float | None = None
    final_denoising_strength: float | None = None
    denoising_curve: str | None = None
    script: str | None = None
    x_type: str | None = None
    x_values: str | None = None
    fixed_x_values: str | None = None
    y_type: str | None = None
    y_values: str | None = None
    fixed_y_values: str | None = None
    z_type: str | None = None
    z_values: str | None = None
    fixed_z_values: str | None = None
    lora_hashes: str | None = None
    ti_hashes: str | None = None
    template: str | None = None
    negative_template: str | None = None
    batch_size: int | None = None
    batch_position: int | None = None
    dtype: str | None = None
    device: str | None = None
    libraries: str | None = None
    pixel_hash: str | None = None
    extras: tuple[tuple[str, str], ...] = ()
    version: str | None = None
    user: str | None = None

    def given(self) -> dict[str, object]:
        """The fields that say something, by name."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in found.items() if value not in (None, "", ())}


@dataclass(frozen=True, slots=True)
class Key:
    """One key. neutral: the value that is the same as none, and is not written; low, high: what numbers may be.

    aliases: what other programs, and versions with a slip of the pen, call it.
    """

    name: str
    field: str
    kind: Kind = "text"
    neutral: Value | None = None
    low: float | None = None
    high: float | None = None
    aliases: tuple[str, ...] = ()


def _field(name: str) -> Key:
    """The key of a field of a request: what it is called, and what it may hold, is said in `request.fields`."""
    field = FIELDS[name]
    given = field.infotext
    assert given is not None
    limits = given.limits or field.limits
    return Key(
        given.key,
        name,
        "text" if field.kind == "texts" else field.kind,  # several in one text, as their group reads it
        neutral=None if given.always else _neutral(field.default, given.neutral),
        low=None if limits is None else limits.low,
        high=None if limits is None else limits.high,
        aliases=given.aliases,
    )


def _neutral(default: object, stated: Value | None) -> Value | None:
    return cast("Value | None", default) if stated is None else stated


KEYS: tuple[Key, ...] = (
    _field("steps"),
    _field("sampler"),
    _field("scheduler"),
    _field("cfg_scale"),
    Key("Distilled CFG Scale", "distilled_cfg_scale", "float", low=0, high=100),
    _field("image_cfg_scale"),
    _field("cfg_rescale"),
    Key("Shift", "shift", "float", low=0, high=100),
    _field("seed"),
    Key("Face restoration", "face_restoration"),
    Key("Size", "size", "size", low=1, high=MAX_SIDE),
    _field("model_hash"),
    _field("model"),
    Key("FP8 weight", "fp8_weight", neutral="Disable"),
    Key("Cache FP16 weight for LoRA", "fp16_lora_cache", "flag", neutral=False),
    Key("VAE hash", "vae_hash"),
    _field("vae"),
    _field("text_encoders"),
    _field("variation_seed"),
    _field("variation_strength"),
    _field("seed_resize"),
    _field("denoising_strength"),
    _field("conditional_mask_weight"),
    _field("clip_skip"),
    _field("ensd"),
    Key("Token merging ratio", "token_merging_ratio", "float", 0.0, low=0, high=1),
    Key("Token merging ratio hr", "token_merging_ratio_hires", "float", 0.0, low=0, high=1),
    Key("Init image hash", "init_image_hash"),
    _field("rng"),
    _field("ngms"),
    Key("Tiling", "tiling", "flag", neutral=False),
    _field("hires_checkpoint"),
    _field("hires_sampler"),
    _field("hires_prompt"),
    _field("hires_negative_prompt"),
    _field("hires_scheduler"),
    _field("hires_upscale"),
    _field("hires_resize"),
    _field("hires_steps"),
    _field("hires_upscaler"),
    _field("hires_cfg_scale"),
    _field("hires_denoising_strength"),
    _field("mask_mode"),
    _field("mask_blur"),
    _field("inpaint_area"),
    _field("masked_area_padding"),
    _field("masked_content"),
    _field("outpaint"),
    _field("noise_level"),
    _field("soft_inpainting"),
    _field("soft_inpainting_schedule_bias"),
    _field("soft_inpainting_preservation_strength"),
    _field("soft_inpainting_transition_contrast_boost"),
    _field("soft_inpainting_mask_influence"),
    _field("soft_inpainting_difference_threshold"),
    _field("soft_inpainting_difference_contrast"),
    _field("noise_multiplier"),
    _field("extra_noise"),
    _field("resize_mode"),
    _field("exact_steps"),
    _field("color_correction"),
    _field("original_size"),
    _field("crop_top"),
    _field("crop_left"),
    _field("target_size"),
    _field("negative_original_size"),
    _field("negative_crop_top"),
    _field("negative_crop_left"),
    _field("negative_target_size"),
    _field("aesthetic_score"),
    _field("negative_aesthetic_score"),
    _field("controls"),
    _field("references"),
    _field("faces"),
    _field("regions"),
    _field("region_method"),
    _field("region_ground"),
    _field("tile"),
    _field("view_method"),
    _field("view_width"),
    _field("view_height"),
    _field("view_overlap"),
    _field("vae_strips"),
    _field("postprocess_upscale_by"),
    _field("postprocess_upscale_to"),
    Key("Postprocess crop to", "postprocess_crop_to", "size", low=1, high=MAX_SIDE),
    _field("postprocess_upscaler"),
    _field("postprocess_upscaler_2"),
    _field("postprocess_upscaler_2_visibility"),
    _field("eta"),
    _field("eta_ddim"),
    _field("s_churn"),
    _field("s_tmin"),
    _field("s_tmax"),
    _field("s_noise"),
    _field("sigma_min"),
    _field("sigma_max"),
    _field("rho"),
    _field("discard_penultimate_sigma"),
    _field("sgm_noise_multiplier"),
    _field("beta_alpha"),
    _field("beta_beta"),
    _field("unipc_variant"),
    Key("UniPC skip type", "unipc_skip_type"),
    _field("unipc_order"),
    _field("unipc_lower_order_final"),
    _field("ngms_all_steps"),
    _field("skip_early_cfg"),
    _field("cfg_interval_low"),
    _field("cfg_interval_high"),
    Key("Dynamic thresholding enabled", "dynamic_thresholding", "flag", aliases=("dynthres_enabled",)),
    _field("mimic_scale"),
    _field("mimic_phi"),
    _field("mimic_percentile"),
    Key("freeu_enabled", "freeu_enabled", "flag"),
    _field("freeu_b1"),
    _field("freeu_b2"),
    _field("freeu_s1"),
    _field("freeu_s2"),
    _field("freeu_version"),
    Key("sag_enabled", "sag_enabled", "flag", aliases=("SAG Guidance Enabled",)),
    _field("sag_scale"),
    _field("sag_blur_sigma"),
    Key("PAG Active", "pag_active", "flag"),
    _field("pag_scale"),
    _field("pag_layers"),
    _field("apg_eta"),
    _field("apg_norm_threshold"),
    _field("apg_momentum"),
    _field("perp_neg_scale"),
    _field("slg_scale"),
    _field("clip_guidance_scale"),
    Key("Pad conds", "pad_conds", "flag", neutral=False),
    Key("Pad conds v0", "pad_conds_v0", "flag", neutral=False),
    _field("emphasis"),
    _field("old_timelines"),
    _field("downcast_alphas"),
    _field("noise_schedule"),
    _field("refiner"),
    _field("refiner_switch_at"),
    _field("hires_refiner"),
    _field("refiner_by_steps"),
    Key("VAE Encoder", "vae_encoder", neutral="Full"),
    Key("VAE Decoder", "vae_decoder", neutral="Full"),
    Key("Hypertile U-Net", "hypertile", "flag", neutral=False),
    Key("Hypertile U-Net second pass", "hypertile_second_pass", "flag", neutral=False),
    Key("Hypertile VAE", "hypertile_vae", "flag", neutral=False),
    _field("sd_upscale_overlap"),
    _field("sd_upscale_upscaler"),
    _field("sd_upscale_factor"),
    Key("Final denoising strength", "final_denoising_strength", "float", low=0, high=1),
    Key("Denoising curve", "denoising_curve"),
    Key("Script", "script"),
    Key("X Type", "x_type"),
    Key("X Values", "x_values"),
    Key("Fixed X Values", "fixed_x_values"),
    Key("Y Type", "y_type"),
    Key("Y Values", "y_values"),
    Key("Fixed Y Values", "fixed_y_values"),
    Key("Z Type", "z_type"),
    Key("Z Values", "z_values"),
    Key("Fixed Z Values", "fixed_z_values"),
    _field("lora_hashes"),
    _field("ti_hashes"),
    Key("Template", "template"),
    Key("Negative Template", "negative_template"),
    _field("batch_size"),
    Key("Batch pos", "batch_position", "int", 0, low=0, high=10_000),
    Key("Dtype", "dtype"),
    Key("Device", "device"),
    Key("Libraries", "libraries"),
    Key("Pixel hash", "pixel_hash"),
)
"""In the order in which they are written; Dtype to Pixel hash are Atelier's own."""
LAST_KEYS: tuple[Key, ...] = (Key("Version", "version"), Key("User", "user"))
"""Written behind everything, unknown keys too."""
ALL_KEYS = KEYS + LAST_KEYS

BY_NAME: Mapping[str, Key] = MappingProxyType(
    {name.casefold(): key for key in reversed(ALL_KEYS) for name in (*key.aliases, key.name)}
)
"""Keys by folded name and alias."""
NAMES = frozenset(key.name for key in ALL_KEYS)
