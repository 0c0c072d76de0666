"""The bodies of A1111's requests, with its defaults."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from atelier.api.sdapi.tolerant import Body, Choice, Flag, Name, Names, Number, Seed, Text, Whole, by_name, listed

Picture = str | dict[str, Any]
"""An image in base64, or an object with `image` and perhaps `mask`, as pages with a brush send them."""
Pictures = Annotated[list[Picture], BeforeValidator(listed)]
Values = Annotated[dict[str, Any], BeforeValidator(by_name)]


class Generation(Body):
    """What txt2img and img2img share."""

    prompt: Text = ""
    negative_prompt: Text = ""
    styles: Names | None = None
    seed: Seed = -1
    subseed: Seed = -1
    subseed_strength: Number = 0.0
    seed_resize_from_h: Whole = -1
    seed_resize_from_w: Whole = -1
    sampler_name: Name | None = None
    scheduler: Name | None = None
    batch_size: Whole = 1
    n_iter: Whole = 1
    steps: Whole = 50
    cfg_scale: Number = 7.0
    width: Whole = 512
    height: Whole = 512
    restore_faces: Flag | None = None
    tiling: Flag | None = None
    do_not_save_samples: Flag = False
    do_not_save_grid: Flag = False
    eta: Number | None = None
    denoising_strength: Number = 0.75
    s_min_uncond: Number | None = None
    s_churn: Number | None = None
    s_tmax: Number | None = None
    s_tmin: Number | None = None
    s_noise: Number | None = None
    override_settings: Values = Field(default_factory=dict)
    override_settings_restore_afterwards: Flag = True
    refiner_checkpoint: Name | None = None
    refiner_switch_at: Number | None = None
    disable_extra_networks: Flag = False
    comments: Values | None = None
    sampler_index: Name = "Euler"
    script_name: Name | None = None
    script_args: list[Any] = Field(default_factory=list)
    send_images: Flag = True
    save_images: Flag = False
    alwayson_scripts: Values = Field(default_factory=dict)
    force_task_id: Name | None = None
    infotext: Annotated[str, Field(max_length=65_536)] | None = None


class Txt2Img(Generation):
    """POST txt2img."""

    enable_hr: Flag = False
    firstphase_width: Whole = 0
    firstphase_height: Whole = 0
    firstpass_image: str | None = None
    hr_scale: Number = 2.0
    hr_upscaler: Name | None = None
    hr_second_pass_steps: Whole = 0
    hr_resize_x: Whole = 0
    hr_resize_y: Whole = 0
    hr_checkpoint_name: Name | None = None
    hr_sampler_name: Name | None = None
    hr_scheduler: Name | None = None
    hr_prompt: Text = ""
    hr_negative_prompt: Text = ""
    hr_cfg: Number | None = None


class Img2Img(Generation):
    """POST img2img."""

    init_images: Pictures | None = None
    resize_mode: Choice = 0
    image_cfg_scale: Number | None = None
    mask: Picture | None = None
    mask_blur_x: Number = 4.0
    mask_blur_y: Number = 4.0
    mask_blur: Number | None = None
    mask_round: Flag = True
    inpainting_fill: Choice = 0
    inpaint_full_res: Flag = True
    inpaint_full_res_padding: Whole = 0
    inpainting_mask_invert: Flag = False
    initial_noise_multiplier: Number | None = None
    latent_mask: Picture | None = None
    include_init_images: Flag = False


class Extras(Body):
    """What extra-single-image and extra-batch-images share."""

    resize_mode: Choice = 0
    show_extras_results: Flag = True
    gfpgan_visibility: Number = 0.0
    codeformer_visibility: Number = 0.0
    codeformer_weight: Number = 0.0
    upscaling_resize: Number = 2.0
    upscaling_resize_w: Whole = 512
    upscaling_resize_h: Whole = 512
    upscaling_crop: Flag = True
    upscaler_1: Name = "None"
    upscaler_2: Name = "None"
    extras_upscaler_2_visibility: Number = 0.0
    upscale_first: Flag = False


class ExtraSingle(Extras):
    """POST extra-single-image."""

    image: Picture = ""


class NamedImage(Body):
    """data: in base64; name: of a file, which is not used."""

    data: str
    name: Name = ""


class ExtraBatch(Extras):
    """POST extra-batch-images."""

    image_list: list[NamedImage] = Field(alias="imageList", default_factory=list[NamedImage])


class PngInfo(Body):
    """POST png-info."""

    image: Picture = ""


class Interrogate(Body):
    """POST interrogate."""

    image: Picture = ""
    model: Name = "clip"


class Unit(Body):
    """A unit of the ControlNet extension, with the names of old versions. Fields are what they are in the one table of
    docs/compatibility/a1111-api.md; enabled: None where nobody says."""

    enabled: Flag | None = None
    module: Name = "none"
    model: Name = "None"
    weight: Number = 1.0
    image: Any = Field(default=None, validation_alias=AliasChoices("image", "input_image"))
    mask: Any = Field(default=None, validation_alias=AliasChoices("mask", "mask_image"))
    effective_region_mask: Any = None
    resize_mode: Choice = 1
    processor_res: Whole = -1
    threshold_a: Number = -1.0
    threshold_b: Number = -1.0
    guidance_start: Number = 0.0
    guidance_end: Number = Field(default=1.0, validation_alias=AliasChoices("guidance_end", "guidance"))
    pixel_perfect: Flag = False
    control_mode: Choice = 0
    guessmode: Flag = False
    hr_option: Choice = 0
    save_detected_map: Flag = True
    inpaint_crop_input_image: Flag = True
    union_control_type: Name = ""
    input_mode: Name = ""
    advanced_weighting: list[Number] | None = None
    ipadapter_input: Any = None
    animatediff_batch: Any = None
    batch_images: Any = None
    batch_image_files: Any = None


class Detect(Body):
    """POST /controlnet/detect."""

    controlnet_module: Name = "none"
    controlnet_input_images: Pictures = Field(
        default_factory=list[Picture], validation_alias=AliasChoices("controlnet_input_images", "controlnet_images")
    )
    controlnet_processor_res: Whole = -1
    controlnet_threshold_a: Number = -1.0
    controlnet_threshold_b: Number = -1.0


class TaskProgress(Body):
    """POST /internal/progress, which pages of A1111 ask for."""

    id_task: Name = ""
    id_live_preview: Whole = -1
    live_preview: Flag = True
