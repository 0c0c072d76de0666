"""What the bodies of txt2img and img2img mean, as fields of a request. No HTTP, no image is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from atelier.api.errors import Problem, Refused
from atelier.api.sdapi.bodies import Generation, Img2Img, Txt2Img
from atelier.api.sdapi.names import NONE, known_styles, method, model_named, schedule, upscaler_named
from atelier.api.sdapi.pictures import taken
from atelier.api.service import Catalogue
from atelier.registry import folded
from atelier.request.events import Json
from atelier.request.fields import SIDE_STEP

Fields = dict[str, Json]
RESIZE = ("stretch", "crop", "fill", "latent")
RESIZE_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "just resize": "stretch",
        "crop and resize": "crop",
        "resize and fill": "fill",
        "just resize (latent upscale)": "latent",
        "inner fit (scale to fit)": "crop",
        "scale to fit (inner fit)": "crop",
        "outer fit (shrink to fit)": "fill",
        "envelope (outer fit)": "fill",
        **{name: name for name in RESIZE},
    }
)
"""Names of ways to resize, those of old versions too, folded."""
FILLS = ("fill", "original", "latent noise", "latent nothing")
SEEDS = 2**64

SAID_BY: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "prompt": ("prompt",),
        "negative_prompt": ("negative_prompt",),
        "styles": ("styles",),
        "steps": ("steps",),
        "sampler": ("sampler_name", "sampler_index"),
        "scheduler": ("scheduler",),
        "cfg_scale": ("cfg_scale",),
        "seed": ("seed",),
        "width": ("width",),
        "height": ("height",),
        "batch_size": ("batch_size",),
        "batch_count": ("n_iter",),
        "variation_seed": ("subseed",),
        "variation_strength": ("subseed_strength",),
        "seed_resize": ("seed_resize_from_w", "seed_resize_from_h"),
        "tile": ("tiling",),
        "eta": ("eta",),
        "ngms": ("s_min_uncond",),
        "s_churn": ("s_churn",),
        "s_tmin": ("s_tmin",),
        "s_tmax": ("s_tmax",),
        "s_noise": ("s_noise",),
        "refiner": ("refiner_checkpoint",),
        "refiner_switch_at": ("refiner_switch_at",),
        "denoising_strength": ("denoising_strength",),
        "hires_upscale": ("hr_scale", "enable_hr"),
        "hires_resize": ("hr_resize_x", "hr_resize_y", "enable_hr"),
        "hires_steps": ("hr_second_pass_steps",),
        "hires_upscaler": ("hr_upscaler",),
        "hires_checkpoint": ("hr_checkpoint_name",),
        "hires_sampler": ("hr_sampler_name",),
        "hires_scheduler": ("hr_scheduler",),
        "hires_prompt": ("hr_prompt",),
        "hires_negative_prompt": ("hr_negative_prompt",),
        "hires_cfg_scale": ("hr_cfg",),
        "resize_mode": ("resize_mode",),
        "noise_multiplier": ("initial_noise_multiplier",),
        "image_cfg_scale": ("image_cfg_scale",),
        "mask_mode": ("inpainting_mask_invert",),
        "mask_blur": ("mask_blur", "mask_blur_x", "mask_blur_y"),
        "masked_content": ("inpainting_fill",),
        "inpaint_area": ("inpaint_full_res",),
        "masked_area_padding": ("inpaint_full_res_padding",),
    }
)
"""Fields of a request, and which fields of a body say them."""


def refused(message: str, field: str, status: int = 422) -> Refused:
    """The refusal of a field, as A1111's exceptions look."""
    return Refused(Problem(status, "HTTPException", message, field))


def of_txt2img(body: Txt2Img, catalogue: Catalogue, warn: list[str]) -> Fields:
    """The fields that a body of txt2img asks for. Raises Refused."""
    fields = shared(body, catalogue, warn)
    return {**fields, **hires(body, catalogue, fields, warn)} if body.enable_hr else fields


def of_img2img(body: Img2Img, catalogue: Catalogue, warn: list[str], *, masked: bool) -> Fields:
    """The fields that a body of img2img asks for, but its images. Raises Refused."""
    if body.latent_mask is not None and taken(body.latent_mask, "latent_mask").image:
        raise refused("latent_mask: it is not taken here; send the mask as `mask`", "latent_mask")
    fields = shared(body, catalogue, warn)
    fields["denoising_strength"] = body.denoising_strength
    fields["resize_mode"] = resize_mode(body.resize_mode)
    _say(fields, "noise_multiplier", body.initial_noise_multiplier, 1.0)
    _say(fields, "image_cfg_scale", body.image_cfg_scale, 1.5)
    return {**fields, **_mask(body, warn)} if masked else fields


def shared(body: Generation, catalogue: Catalogue, warn: list[str]) -> Fields:
    """What both say."""
    fields: Fields = {
        "prompt": body.prompt,
        "steps": body.steps,
        "cfg_scale": body.cfg_scale,
        "width": _side(body.width, "width", warn),
        "height": _side(body.height, "height", warn),
        "batch_size": body.batch_size,
        "batch_count": body.n_iter,
    }
    _say(fields, "negative_prompt", body.negative_prompt, "")
    _say(fields, "seed", body.seed if body.seed >= -1 else body.seed % SEEDS, -1)
    _styles(fields, body, catalogue, warn)
    _method(fields, body, catalogue, warn)
    _variation(fields, body)
    _sampling(fields, body)
    _refiner(fields, body, catalogue)
    if body.tiling:
        fields["tile"] = "xy"
    _without_effect(body, warn)
    return fields


def _say(fields: Fields, name: str, value: Json, neutral: Json) -> None:
    """Sets a field that is said, and says more than nothing."""
    if value is not None and value != neutral:
        fields[name] = value


def _side(pixels: int, name: str, warn: list[str]) -> int:
    """A1111's latents have a position for every 8 pixels, and the rest is cut off."""
    side = pixels - pixels % SIDE_STEP
    if side != pixels > 0:
        warn.append(f"{name} {pixels} is no multiple of {SIDE_STEP}: {side} is generated")
    return side


def _styles(fields: Fields, body: Generation, catalogue: Catalogue, warn: list[str]) -> None:
    there, missing = known_styles(catalogue, (name for name in body.styles or () if folded(name) != "none"))
    if there:
        fields["styles"] = list[Json](there)
    warn += [f"styles: {name[:80]!r} is not saved here, and adds nothing" for name in missing]


def _method(fields: Fields, body: Generation, catalogue: Catalogue, warn: list[str]) -> None:
    name = body.sampler_name if body.sampler_name and body.sampler_name.strip() else body.sampler_index
    field = "sampler_name" if name == body.sampler_name else "sampler_index"
    sampler, scheduler, warning = method(catalogue, name.strip() or "Euler", body.scheduler, field)
    fields["sampler"] = sampler
    _say(fields, "scheduler", scheduler, None)
    warn += [warning] if warning else []


def _variation(fields: Fields, body: Generation) -> None:
    if body.subseed_strength:
        fields["variation_strength"] = body.subseed_strength
        _say(fields, "variation_seed", body.subseed if body.subseed >= -1 else body.subseed % SEEDS, -1)
    if body.seed_resize_from_w > 0 and body.seed_resize_from_h > 0:
        fields["seed_resize"] = [body.seed_resize_from_w, body.seed_resize_from_h]


def _sampling(fields: Fields, body: Generation) -> None:
    _say(fields, "eta", body.eta, None)
    _say(fields, "ngms", body.s_min_uncond, 0.0)
    _say(fields, "s_churn", body.s_churn, 0.0)
    _say(fields, "s_tmin", body.s_tmin, 0.0)
    _say(fields, "s_tmax", body.s_tmax, 0.0)
    _say(fields, "s_noise", body.s_noise, 1.0)


def _refiner(fields: Fields, body: Generation, catalogue: Catalogue) -> None:
    """There is one where it is named and it is said when it takes over."""
    name = body.refiner_checkpoint
    if name is None or name.strip().casefold() in NONE or body.refiner_switch_at is None or body.refiner_switch_at >= 1:
        return
    fields["refiner"] = model_named(catalogue, name, "refiner_checkpoint")
    fields["refiner_switch_at"] = body.refiner_switch_at


def _without_effect(body: Generation, warn: list[str]) -> None:
    if body.restore_faces:
        warn.append("restore_faces: faces are not restored here")
    if body.disable_extra_networks and "<" in body.prompt:
        warn.append("disable_extra_networks: networks that the prompt names are used")
    if body.override_settings and not body.override_settings_restore_afterwards:
        warn.append("override_settings_restore_afterwards: settings hold for this request; POST options keeps them")


def hires(body: Txt2Img, catalogue: Catalogue, fields: Fields, warn: list[str]) -> Fields:
    """The second pass."""
    made: Fields = {"denoising_strength": body.denoising_strength, **_hires_size(body, fields)}
    made["hires_upscaler"] = upscaler_named(catalogue, body.hr_upscaler or "Latent", "hr_upscaler", latent=True)
    _say(made, "hires_steps", body.hr_second_pass_steps, 0)
    _say(made, "hires_prompt", body.hr_prompt, "")
    _say(made, "hires_negative_prompt", body.hr_negative_prompt, "")
    _say(made, "hires_cfg_scale", body.hr_cfg, None)
    model = body.hr_checkpoint_name
    if model and not _is_same(model):
        made["hires_checkpoint"] = model_named(catalogue, model, "hr_checkpoint_name")
    _hires_method(made, body, catalogue, warn)
    return made


def _hires_size(body: Txt2Img, fields: Fields) -> Fields:
    """How large. firstphase_*, of old versions, is the first pass, and width and height are then the second's."""
    first = (body.firstphase_width, body.firstphase_height)
    if any(first):
        if min(first) <= 0:
            raise refused("firstphase_width and firstphase_height: give both, or neither", "firstphase_width")
        return {"width": first[0], "height": first[1], "hires_resize": [fields["width"], fields["height"]]}
    if body.hr_resize_x > 0 or body.hr_resize_y > 0:
        return {"hires_resize": [body.hr_resize_x, body.hr_resize_y]}
    return {"hires_upscale": body.hr_scale}


def _hires_method(made: Fields, body: Txt2Img, catalogue: Catalogue, warn: list[str]) -> None:
    if body.hr_sampler_name and not _is_same(body.hr_sampler_name):
        sampler, scheduler, warning = method(catalogue, body.hr_sampler_name, body.hr_scheduler, "hr_sampler_name")
        made["hires_sampler"] = sampler
    else:
        scheduler, warning = schedule(catalogue, body.hr_scheduler)
    _say(made, "hires_scheduler", scheduler, None)
    warn += [warning] if warning else []


def _is_same(name: str) -> bool:
    return name.strip().casefold() in NONE or name.strip().casefold().startswith("use same")


def resize_mode(said: int | str) -> str:
    """The way to resize by its number or its name."""
    return _chosen(said, RESIZE, RESIZE_NAMES, "resize_mode")


def _chosen(said: int | str, numbered: Sequence[str], named: Mapping[str, str], field: str) -> str:
    text = str(said).strip().casefold()
    if text in named:
        return named[text]
    number = int(text) if text.isdecimal() and len(text) < 4 else -1
    if not 0 <= number < len(numbered):
        raise refused(f"{field} {str(said)[:60]!r}: give 0 to {len(numbered) - 1}, or one of {', '.join(named)}", field)
    return numbered[number]


def _mask(body: Img2Img, warn: list[str]) -> Fields:
    if not body.mask_round:
        warn.append("mask_round: grey in the mask is rounded; the script Soft inpainting reads it")
    blur = body.mask_blur
    if blur is None:
        blur = (body.mask_blur_x + body.mask_blur_y) / 2
        if body.mask_blur_x != body.mask_blur_y:
            warn.append(f"mask_blur_x and mask_blur_y differ: {blur:g} is taken for both")
    fields: Fields = {
        "mask_blur": blur,
        "masked_content": _chosen(body.inpainting_fill, FILLS, {name: name for name in FILLS}, "inpainting_fill"),
        "inpaint_area": "Only masked" if body.inpaint_full_res else "Whole picture",
        "masked_area_padding": body.inpaint_full_res_padding,
    }
    _say(fields, "mask_mode", "Inpaint not masked" if body.inpainting_mask_invert else None, None)
    return fields
