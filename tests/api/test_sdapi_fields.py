"""What bodies of A1111's dialect mean, against fields written by hand."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from atelier.api.errors import Refused
from atelier.api.sdapi import translate
from atelier.api.sdapi.bodies import Img2Img, Txt2Img
from atelier.api.sdapi.translate import Asked
from atelier.errors import BadInput
from atelier.request.table import request_of
from fakes.a1111 import LISTED, PICTURE

PLAIN = {
    "rng": "nv",
    "prompt": "a cat",
    "steps": 50,
    "cfg_scale": 7.0,
    "width": 512,
    "height": 512,
    "batch_size": 1,
    "batch_count": 1,
    "sampler": "Euler",
}
"""What nothing but a prompt means: A1111's defaults."""
FROM_IMAGE = {**PLAIN, "denoising_strength": 0.75, "resize_mode": "stretch", "image": "upload:image"}
MASKED = {
    **FROM_IMAGE,
    "mask": "upload:mask",
    "mask_blur": 4.0,
    "masked_content": "fill",
    "inpaint_area": "Only masked",
    "masked_area_padding": 0,
}


def text(kept: dict[str, Any] | None = None, **body: Any) -> Asked:
    return translate.txt2img(Txt2Img.model_validate({"prompt": "a cat", **body}), LISTED, kept or {}, lambda: 77)


def image(kept: dict[str, Any] | None = None, **body: Any) -> Asked:
    sent = {"prompt": "a cat", "init_images": [PICTURE], **body}
    return translate.img2img(Img2Img.model_validate(sent), LISTED, kept or {}, lambda: 77)


def only(asked: Asked) -> dict[str, Any]:
    """The fields of the one request, which has to be one that can be made."""
    (fields,) = asked.runs.fields
    request_of({name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
    return dict(fields)


def refused(call: Any, **body: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(**body)
    return caught.value


def test_defaults_are_a1111s() -> None:
    assert only(text()) == PLAIN
    assert only(image()) == FROM_IMAGE
    assert only(image(mask=PICTURE)) == MASKED


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"steps": "20"}, {"steps": 20}),
        ({"steps": 20.0}, {"steps": 20}),
        ({"steps": 7.5}, {"steps": 7}),
        ({"steps": None, "width": None, "prompt": None}, {"prompt": ""}),
        ({"cfg_scale": "7.5"}, {"cfg_scale": 7.5}),
        ({"cfg_scale": 4}, {"cfg_scale": 4.0}),
        ({"width": 513, "height": "770"}, {"width": 512, "height": 768}),
        ({"seed": "5"}, {"seed": 5}),
        ({"seed": "what"}, {}),
        ({"seed": ""}, {}),
        ({"seed": -1}, {}),
        ({"seed": -5}, {"seed": 2**64 - 5}),
        ({"seed": 2**40}, {"seed": 2**40}),
        ({"subseed": 9}, {}),
        ({"subseed": 9, "subseed_strength": "0.5"}, {"variation_seed": 9, "variation_strength": 0.5}),
        ({"seed_resize_from_w": 64, "seed_resize_from_h": 128}, {"seed_resize": [64, 128]}),
        ({"seed_resize_from_w": 0, "seed_resize_from_h": 128}, {}),
        ({"tiling": True}, {"tile": "xy"}),
        ({"tiling": 0}, {}),
        ({"n_iter": 2, "batch_size": "3"}, {"batch_count": 2, "batch_size": 3}),
        ({"eta": 0.5}, {"eta": 0.5}),
        ({"s_churn": 1, "s_tmin": 0.1, "s_tmax": 5, "s_noise": 1.1, "s_min_uncond": 2}, {
            "s_churn": 1.0, "s_tmin": 0.1, "s_tmax": 5.0, "s_noise": 1.1, "ngms": 2.0}),
        ({"s_churn": 0, "s_noise": 1}, {}),
        ({"styles": ["anime"]}, {"styles": ["anime"]}),
        ({"styles": "anime"}, {"styles": ["anime"]}),
        ({"styles": [""]}, {}),
        ({"denoising_strength": 0.3}, {}),
        ({"negative_prompt": "blur"}, {"negative_prompt": "blur"}),
        ({"refiner_checkpoint": "animagine-xl", "refiner_switch_at": 0.8}, {
            "refiner": "animagine-xl", "refiner_switch_at": 0.8}),
        ({"refiner_checkpoint": "animagine-xl"}, {}),
        ({"refiner_checkpoint": "None", "refiner_switch_at": 0.8}, {}),
        ({"no_such_field": 1, "seed_enable_extras": True}, {}),
    ],
)  # fmt: skip
def test_fields_and_tolerances(body: dict[str, Any], fields: dict[str, Any]) -> None:
    assert only(text(**body)) == {**PLAIN, **fields}


@pytest.mark.parametrize(
    ("body", "sampler", "scheduler"),
    [
        ({"sampler_name": "DPM++ 2M Karras"}, "DPM++ 2M", "karras"),
        ({"sampler_name": "DPM++ 2M Karras", "scheduler": "Simple"}, "DPM++ 2M", "karras"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Karras"}, "DPM++ 2M", "karras"),
        ({"sampler_name": "DPM++ 2M", "scheduler": "automatic"}, "DPM++ 2M", None),
        ({"sampler_name": "DPM++ 2M SDE Exponential"}, "DPM++ 2M SDE", "exponential"),
        ({"sampler_name": "DPM++ 2M SDE Heun"}, "DPM++ 2M SDE Heun", None),
        ({"sampler_index": "Euler a"}, "Euler a", None),
        ({"sampler_index": "Euler a", "sampler_name": "LMS"}, "LMS", None),
        ({"sampler_index": "Euler a", "sampler_name": None}, "Euler a", None),
        ({"sampler_name": ""}, "Euler", None),
        ({"sampler_name": "k_euler_a"}, "Euler a", None),
        ({"sampler_name": "euler a"}, "Euler a", None),
        ({"sampler_name": "DDIM", "scheduler": "Karras"}, "DDIM", None),
        ({"sampler_name": "DPM adaptive", "scheduler": "SGM Uniform"}, "DPM adaptive", None),
        ({"sampler_name": "DPM fast Simple"}, "DPM fast", None),
        ({"sampler_name": "Euler", "scheduler": "SGM Uniform"}, "Euler", "sgm_uniform"),
        ({"sampler_name": "Euler", "scheduler": "sgm_uniform"}, "Euler", "sgm_uniform"),
        ({"sampler_name": "Euler", "scheduler": "no such"}, "Euler", None),
    ],
)  # fmt: skip
def test_samplers_and_schedulers(body: dict[str, Any], sampler: str, scheduler: str | None) -> None:
    fields = only(text(**body))
    assert (fields["sampler"], fields.get("scheduler")) == (sampler, scheduler)


def test_a_sampler_that_nobody_knows_is_refused_with_400() -> None:
    problem = refused(text, sampler_name="Eulr b").problem
    assert (problem.status, problem.field) == (400, "sampler_name")
    assert "Sampler not found" in problem.message


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"hires_upscale": 2.0, "hires_upscaler": "Latent", "denoising_strength": 0.75}),
        ({"hr_scale": "1.5", "denoising_strength": "0.4"}, {
            "hires_upscale": 1.5, "hires_upscaler": "Latent", "denoising_strength": 0.4}),
        ({"hr_resize_x": 768, "hr_upscaler": "r-esrgan 4x+"}, {
            "hires_resize": [768, 0], "hires_upscaler": "R-ESRGAN 4x+", "denoising_strength": 0.75}),
        ({"hr_upscaler": "None"}, {"hires_upscale": 2.0, "hires_upscaler": "Lanczos", "denoising_strength": 0.75}),
        ({"hr_second_pass_steps": 15.0}, {
            "hires_upscale": 2.0, "hires_upscaler": "Latent", "denoising_strength": 0.75, "hires_steps": 15}),
        ({"hr_prompt": "a dog", "hr_negative_prompt": "fog", "hr_cfg": 3}, {
            "hires_upscale": 2.0, "hires_upscaler": "Latent", "denoising_strength": 0.75, "hires_prompt": "a dog",
            "hires_negative_prompt": "fog", "hires_cfg_scale": 3.0}),
        ({"hr_checkpoint_name": "Use same checkpoint", "hr_sampler_name": "Use same sampler",
          "hr_scheduler": "Use same scheduler"}, {
            "hires_upscale": 2.0, "hires_upscaler": "Latent", "denoising_strength": 0.75}),
        ({"hr_checkpoint_name": "model.ckpt [7460a6fa00]", "hr_sampler_name": "DPM++ 2M Karras"}, {
            "hires_upscale": 2.0, "hires_upscaler": "Latent", "denoising_strength": 0.75, "hires_checkpoint": "model",
            "hires_sampler": "DPM++ 2M", "hires_scheduler": "karras"}),
        ({"firstphase_width": 256, "firstphase_height": 192}, {
            "width": 256, "height": 192, "hires_resize": [512, 512], "hires_upscaler": "Latent",
            "denoising_strength": 0.75}),
    ],
)  # fmt: skip
def test_second_pass(body: dict[str, Any], fields: dict[str, Any]) -> None:
    assert only(text(enable_hr=True, **body)) == {**PLAIN, **fields}
    unasked = only(text(**body))
    assert unasked == PLAIN


def test_bad_second_passes() -> None:
    assert refused(text, enable_hr=True, hr_upscaler="No such").problem.field == "hr_upscaler"
    assert refused(text, enable_hr=True, hr_checkpoint_name="No such").problem.field == "hr_checkpoint_name"
    assert refused(text, enable_hr=True, firstphase_width=256).problem.field == "firstphase_width"
    assert only(text(hr_upscaler="No such")) == PLAIN


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"resize_mode": 1}, {"resize_mode": "crop"}),
        ({"resize_mode": "2"}, {"resize_mode": "fill"}),
        ({"resize_mode": "Resize and Fill"}, {"resize_mode": "fill"}),
        ({"resize_mode": "Just resize (latent upscale)"}, {"resize_mode": "latent"}),
        ({"resize_mode": "Inner Fit (Scale to Fit)"}, {"resize_mode": "crop"}),
        ({"initial_noise_multiplier": 1.1, "image_cfg_scale": 2}, {"noise_multiplier": 1.1, "image_cfg_scale": 2.0}),
        ({"initial_noise_multiplier": 1, "image_cfg_scale": 1.5}, {}),
        ({"mask": ""}, {}),
        ({"mask": None}, {}),
        ({"denoising_strength": 0}, {"denoising_strength": 0.0}),
        ({"inpainting_fill": 2}, {}),
    ],
)  # fmt: skip
def test_img2img(body: dict[str, Any], fields: dict[str, Any]) -> None:
    assert only(image(**body)) == {**FROM_IMAGE, **fields}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"mask_blur": 8}, {"mask_blur": 8.0}),
        ({"mask_blur_x": 6, "mask_blur_y": 6}, {"mask_blur": 6.0}),
        ({"mask_blur_x": 6, "mask_blur_y": 2}, {"mask_blur": 4.0}),
        ({"inpainting_fill": 1}, {"masked_content": "original"}),
        ({"inpainting_fill": "latent noise"}, {"masked_content": "latent noise"}),
        ({"inpainting_fill": 3}, {"masked_content": "latent nothing"}),
        ({"inpaint_full_res": 0}, {"inpaint_area": "Whole picture"}),
        ({"inpaint_full_res": True, "inpaint_full_res_padding": 32}, {"masked_area_padding": 32}),
        ({"inpainting_mask_invert": False}, {}),
        ({"inpainting_mask_invert": 1}, {"mask_mode": "Inpaint not masked"}),
        ({"alwayson_scripts": {"Soft Inpainting": {"args": [True, 2, 0.4, 3, 0.1, 0.6, 1.5]}}}, {
            "soft_inpainting": True, "soft_inpainting_schedule_bias": 2.0,
            "soft_inpainting_preservation_strength": 0.4, "soft_inpainting_transition_contrast_boost": 3.0,
            "soft_inpainting_mask_influence": 0.1, "soft_inpainting_difference_threshold": 0.6,
            "soft_inpainting_difference_contrast": 1.5}),
        ({"alwayson_scripts": {"soft inpainting": {"args": [False, 2]}}}, {}),
        ({"alwayson_scripts": {"soft inpainting": {}}}, {}),
    ],
)  # fmt: skip
def test_masks(body: dict[str, Any], fields: dict[str, Any]) -> None:
    assert only(image(mask=PICTURE, **body)) == {**MASKED, **fields}


def test_images_come_in_several_forms() -> None:
    assert image(init_images=PICTURE).images == {"image": PICTURE}
    assert image(init_images=[{"image": PICTURE, "mask": None}]).images == {"image": PICTURE}
    assert image(init_images=[{"image": PICTURE, "mask": "m"}]).images == {"image": PICTURE, "mask": "m"}
    assert image(init_images=[{"image": PICTURE, "mask": "m"}], mask="n").images["mask"] == "n"


def test_images_that_are_none() -> None:
    for none in ([], None, [""], [{"image": ""}]):
        problem = refused(image, init_images=none).problem
        assert (problem.status, problem.message) == (404, "Init image not found")
    assert refused(image, init_images=[PICTURE, PICTURE]).problem.field == "init_images"
    assert refused(image, init_images=[{"picture": PICTURE}]).problem.status == 422
    assert refused(image, latent_mask=PICTURE).problem.field == "latent_mask"
    assert refused(image, resize_mode=9).problem.field == "resize_mode"
    assert refused(image, mask=PICTURE, inpainting_fill="?").problem.field == "inpainting_fill"


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"CLIP_stop_at_last_layers": 2}, {"clip_skip": 2}),
        ({"CLIP_stop_at_last_layers": "1"}, {}),
        ({"sd_model_checkpoint": "model.ckpt [7460a6fa]"}, {"model": "model"}),
        ({"sd_model_checkpoint": "MODEL"}, {"model": "model"}),
        ({"sd_model_checkpoint": "7460a6fa00"}, {"model": "model"}),
        ({"sd_model_checkpoint": "folder/model.ckpt"}, {"model": "model"}),
        ({"eta_noise_seed_delta": 31337}, {"ensd": 31337}),
        ({"randn_source": "CPU"}, {"rng": "cpu"}),
        ({"sd_vae": "Automatic"}, {}),
        ({"sd_vae": "None"}, {}),
        ({"sd_vae": "kl-f8.safetensors"}, {"vae": "kl-f8"}),
        ({"sd_vae": "VAE/KL-F8"}, {"vae": "kl-f8"}),
        ({"eta_ancestral": 0.5}, {"eta": 0.5}),
        ({"eta_ddim": 0.5}, {}),
        ({"always_discard_next_to_last_sigma": True}, {"discard_penultimate_sigma": True}),
        ({"img2img_color_correction": True}, {}),
        ({"samples_format": "jpg", "face_restoration_model": "CodeFormer"}, {}),
        ([], {}),
    ],
)  # fmt: skip
def test_override_settings(settings: Any, fields: dict[str, Any]) -> None:
    assert only(text(override_settings=settings)) == {**PLAIN, **fields}


def test_options_hold_until_a_request_says_otherwise() -> None:
    kept = {"CLIP_stop_at_last_layers": 2, "s_churn": 3, "img2img_color_correction": True, "tiling": True}
    assert only(text(kept)) == {**PLAIN, "clip_skip": 2, "s_churn": 3, "tile": "xy"}
    own = {"override_settings": {"CLIP_stop_at_last_layers": 1}, "s_churn": 0, "tiling": False}
    assert only(text(kept, **own)) == PLAIN
    assert only(image(kept))["color_correction"] is True


def test_eta_of_ddim_is_apart() -> None:
    assert only(text(sampler_name="DDIM", override_settings={"eta_ddim": 0.5}))["eta_ddim"] == 0.5
    assert "eta" not in only(text(sampler_name="DDIM", override_settings={"eta_ancestral": 0.5}))


def test_what_is_not_done_is_told() -> None:
    told = text(
        restore_faces=True,
        styles=["anime", "gone"],
        override_settings={"sd_model_checkpoint": "gone.ckpt", "sd_vae": "no-vae.pt", "no_such_option": 1},
        override_settings_restore_afterwards=False,
        scheduler="no such",
        width=513,
        alwayson_scripts={
            "ADetailer": {"args": [True, {"ad_model": "face"}]},
            "AnimateDiff": {"args": [{"enable": False}]},
        },
    ).warnings
    for part in (
        "restore_faces",
        "'gone'",
        "gone.ckpt",
        "no-vae.pt",
        "no_such_option",
        "restore_afterwards",
        "no such",
        "513",
    ):
        assert any(part in one for one in told), part
    assert sum("ADetailer" in one for one in told) == 1
    assert not any("AnimateDiff" in one for one in told)


def test_always_on_scripts() -> None:
    assert only(text(alwayson_scripts=[])) == PLAIN
    asked = only(text(alwayson_scripts={"Dynamic Thresholding (CFG Scale Fix)": {
        "args": [True, 7, 95, "Constant", 0, "Constant", 0, 4, "enable", "MEAN", "AD", 0.9]}}))  # fmt: skip
    assert asked == {**PLAIN, "mimic_scale": 7.0, "mimic_percentile": 95.0, "mimic_phi": 0.9}
    forges = only(text(alwayson_scripts={"DynamicThresholding (CFG-Fix) Integrated": {
        "args": [True, 7, 0.95, "Constant", 0, "Constant", 0, 1, "enable", "MEAN", "AD", 0.9]}}))  # fmt: skip
    assert forges == asked
    refiner = only(text(alwayson_scripts={"refiner": {"args": [True, "animagine-xl", 0.6]}}))
    assert refiner == {**PLAIN, "refiner": "animagine-xl", "refiner_switch_at": 0.6}
    sag = only(text(alwayson_scripts={"Self Attention Guidance": {"args": [True, 0.5, 1.0]}}))
    assert sag == {**PLAIN, "sag_scale": 0.5}
    wrong = refused(text, alwayson_scripts={"Loopback": {"args": []}}).problem
    assert wrong.message == "Cannot have a selectable script in the always on scripts params"
    assert refused(text, alwayson_scripts={"ADetailer": 5}).problem.status == 422
    for args, told in (
        (["?", "animagine-xl", 0.6], "Refiner args[0] (on) '?': true or false is needed"),
        ([True, "gone", 0.6], "Refiner args[1] (refiner): model 'gone' not found"),
        ([True, "animagine-xl", "late"], "Refiner args[2] (refiner_switch_at) 'late': a number is needed"),
        ([True, "animagine-xl", 5], "Refiner args[2] (refiner_switch_at) '5': must be a number from 0 to 1"),
    ):
        problem = refused(text, alwayson_scripts={"refiner": {"args": args}}).problem
        assert (problem.status, problem.message) == (422, f"alwayson_scripts: {told}")


def test_an_infotext_fills_what_the_body_does_not_say() -> None:
    infotext = (
        "a dog\nNegative prompt: fog\nSteps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 9, "
        "Size: 640x384, Model: model, Clip skip: 2, Denoising strength: 0.3, Hires upscale: 1.5, "
        "Hires upscaler: Latent, RNG: CPU"
    )
    filled = only(text(infotext=infotext, prompt=None))
    assert filled == {
        **PLAIN, "prompt": "a dog", "negative_prompt": "fog", "steps": 30, "sampler": "DPM++ 2M", "scheduler": "Karras",
        "cfg_scale": 5, "seed": 9, "width": 640, "height": 384, "model": "model", "clip_skip": 2,
        "denoising_strength": 0.3, "hires_upscale": 1.5, "hires_upscaler": "Latent", "rng": "cpu", "choices": False,
    }  # fmt: skip
    said = only(text(infotext=infotext, steps=12, seed=4, override_settings={"CLIP_stop_at_last_layers": 1}))
    assert (said["prompt"], said["steps"], said["seed"], said["cfg_scale"]) == ("a cat", 12, 4, 5)
    assert "clip_skip" not in said
    whole = only(image(infotext=infotext, prompt=None))
    assert (whole["prompt"], whole["denoising_strength"]) == ("a dog", 0.3)
    assert not [name for name in whole if name.startswith("hires_")]
    with pytest.raises(BadInput, match="Steps"):
        text(infotext="a dog\nSteps: 99999, Sampler: Euler, CFG scale: 5")


@pytest.mark.parametrize(
    "body",
    [
        {"steps": "many"},
        {"steps": []},
        {"width": {"a": 1}},
        {"cfg_scale": "nan"},
        {"prompt": 5},
        {"prompt": "x" * 16_001},
        {"styles": [5]},
        {"enable_hr": "perhaps"},
        {"alwayson_scripts": [1]},
        {"override_settings": "x"},
        {"script_args": {}},
        {"sampler_name": "x" * 1001},
    ],
)  # fmt: skip
def test_bodies_that_are_none(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Txt2Img.model_validate(body)
    assert caught.value.errors()[0]["loc"][0] == next(iter(body))
