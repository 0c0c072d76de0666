"""A1111's options: those that a request here has a field for, and those that clients read.

OPTIONS is what GET options shows where nobody changed it. FIELD_OF says which of them act, as fields of a request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from atelier.api.errors import Problem, Refused
from atelier.api.sdapi.names import NONE, find_autoencoder, find_model
from atelier.api.sdapi.tolerant import flag, number, whole
from atelier.api.service import Catalogue, ImageKind
from atelier.errors import BadInput, UnknownName
from atelier.prompt.emphasis import emphasis
from atelier.request.events import Json
from atelier.request.table import request_of

MODEL, VAE, CLIP_SKIP = "sd_model_checkpoint", "sd_vae", "CLIP_stop_at_last_layers"
Read = Callable[[object], Json]
KINDS: Mapping[str, ImageKind] = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp"}
"""Values of the option samples_format."""
RNGS: Mapping[str, str] = {"gpu": "nv", "cuda": "nv", "nv": "nv", "cpu": "cpu", "portable": "portable"}
"""The source of noise, folded, to the request's: what a graphics card draws is drawn by its software twin."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("text is needed")  # noqa: TRY004 - pydantic and `checked` want this
    return value


def _named(value: object) -> str:
    """A name; none is "None", whatever stands for it."""
    return "None" if value is None else _text(value)


def _emphasis(value: object) -> str:
    try:
        return emphasis(_text(value)).name
    except UnknownName as error:
        raise ValueError(str(error)) from None


def _rng(value: object) -> str:
    if not isinstance(value, str) or value.casefold() not in RNGS:
        raise ValueError("one of GPU, CPU, NV is needed")
    return RNGS[value.casefold()]


@dataclass(frozen=True, slots=True)
class Acting:
    """An option that acts: the field of a request, and how its value is read. neutral: what leaves the field alone.

    txt2img, img2img, masked: in which requests it means something.
    """

    field: str
    read: Read
    neutral: Json = None
    txt2img: bool = True
    img2img: bool = True
    masked: bool = False


FIELD_OF: Mapping[str, Acting] = MappingProxyType(
    {
        CLIP_SKIP: Acting("clip_skip", whole, neutral=1),
        "eta_noise_seed_delta": Acting("ensd", whole, neutral=0),
        "eta_ancestral": Acting("eta", number, neutral=1.0),
        "eta_ddim": Acting("eta_ddim", number, neutral=0.0),
        "s_churn": Acting("s_churn", number, neutral=0.0),
        "s_tmin": Acting("s_tmin", number, neutral=0.0),
        "s_tmax": Acting("s_tmax", number, neutral=0.0),
        "s_noise": Acting("s_noise", number, neutral=1.0),
        "s_min_uncond": Acting("ngms", number, neutral=0.0),
        "s_min_uncond_all": Acting("ngms_all_steps", flag, neutral=False),
        "skip_early_cond": Acting("skip_early_cfg", number, neutral=0.0),
        "sigma_min": Acting("sigma_min", number, neutral=0.0),
        "sigma_max": Acting("sigma_max", number, neutral=0.0),
        "rho": Acting("rho", number, neutral=0.0),
        "beta_dist_alpha": Acting("beta_alpha", number, neutral=0.6),
        "beta_dist_beta": Acting("beta_beta", number, neutral=0.6),
        "always_discard_next_to_last_sigma": Acting("discard_penultimate_sigma", flag, neutral=False),
        "sgm_noise_multiplier": Acting("sgm_noise_multiplier", flag, neutral=False),
        "use_old_scheduling": Acting("old_timelines", flag, neutral=False),
        "use_downcasted_alpha_bar": Acting("downcast_alphas", flag, neutral=False),
        "refiner_switch_by_sample_steps": Acting("refiner_by_steps", flag, neutral=False),
        "hires_fix_refiner_pass": Acting("hires_refiner", _text, neutral="second pass", img2img=False),
        "sd_noise_schedule": Acting("noise_schedule", _text, neutral="Default"),
        "emphasis": Acting("emphasis", _emphasis, neutral="Original"),
        "uni_pc_variant": Acting("unipc_variant", _text, neutral="bh1"),
        "uni_pc_order": Acting("unipc_order", whole, neutral=3),
        "uni_pc_lower_order_final": Acting("unipc_lower_order_final", flag, neutral=True),
        "randn_source": Acting("rng", _rng),
        "tiling": Acting("tile", lambda value: "xy" if flag(value) else "none", neutral="none"),
        "initial_noise_multiplier": Acting("noise_multiplier", number, neutral=1.0, txt2img=False),
        "img2img_extra_noise": Acting("extra_noise", number, neutral=0.0, txt2img=False),
        "img2img_color_correction": Acting("color_correction", flag, neutral=False, txt2img=False),
        "img2img_fix_steps": Acting("exact_steps", flag, neutral=False, txt2img=False),
        "inpainting_mask_weight": Acting("conditional_mask_weight", number, neutral=1.0, txt2img=False, masked=True),
    }
)
"""Options that are fields of a request."""

SHOWN: Mapping[str, Json] = MappingProxyType(
    {
        "samples_save": True,
        "samples_format": "png",
        "samples_filename_pattern": "",
        "save_images_add_number": True,
        "grid_save": False,
        "grid_format": "png",
        "return_grid": True,
        "enable_pnginfo": True,
        "save_txt": False,
        "jpeg_quality": 80,
        "webp_lossless": False,
        "export_for_4chan": False,
        "img_max_size_mp": 200.0,
        "use_original_name_batch": True,
        "do_not_add_watermark": False,
        "send_seed": True,
        "send_size": True,
        "outdir_samples": "",
        "outdir_txt2img_samples": "",
        "outdir_img2img_samples": "",
        "outdir_extras_samples": "",
        "outdir_grids": "",
        "ESRGAN_tile": 192,
        "ESRGAN_tile_overlap": 8,
        "upscaler_for_img2img": None,
        "face_restoration": False,
        "face_restoration_model": None,
        "code_former_weight": 0.5,
        "memmon_poll_rate": 8,
        "samples_log_stdout": False,
        "multiple_tqdm": True,
        "sd_checkpoint_cache": 0,
        "sd_checkpoints_limit": 1,
        "sd_unet": "Automatic",
        "sd_vae_checkpoint_cache": 0,
        "sd_vae_overrides_per_model_preferences": True,
        "auto_vae_precision": True,
        "enable_quantization": False,
        "enable_emphasis": True,
        "enable_batch_seeds": True,
        "comma_padding_backtrack": 20,
        "upcast_attn": False,
        "img2img_background_color": "#ffffff",
        "return_mask": False,
        "return_mask_composite": False,
        "cross_attention_optimization": "Automatic",
        "token_merging_ratio": 0.0,
        "token_merging_ratio_img2img": 0.0,
        "token_merging_ratio_hr": 0.0,
        "pad_cond_uncond": False,
        "hypertile_enable_unet": False,
        "hypertile_enable_vae": False,
        "interrogate_keep_models_in_memory": False,
        "interrogate_return_ranks": False,
        "interrogate_clip_num_beams": 1,
        "interrogate_clip_min_length": 24,
        "interrogate_clip_max_length": 48,
        "interrogate_deepbooru_score_threshold": 0.5,
        "extra_networks_default_multiplier": 1.0,
        "sd_hypernetwork": "None",
        "sd_lora": "None",
        "hide_samplers": [],
        "k_sched_type": "Automatic",
        "live_previews_enable": True,
        "live_previews_image_format": "jpeg",
        "show_progress_grid": True,
        "show_progress_every_n_steps": 10,
        "show_progress_type": "Approx NN",
        "api_enable_requests": False,
        "api_forbid_local_requests": True,
        "api_useragent": "",
        "quicksettings_list": [MODEL],
        "gradio_theme": "Default",
        "localization": "None",
        "disabled_extensions": [],
        "disable_all_extensions": "none",
        "restore_config_state_file": "",
        "sd_checkpoint_hash": "",
        "add_model_hash_to_info": True,
        "add_model_name_to_info": True,
        "add_version_to_infotext": True,
    }
)
"""Options that clients read, or post back among others, and that change no image here."""

_A1111S: Mapping[str, Json] = MappingProxyType({"randn_source": "GPU", "tiling": False})
"""What acts, with A1111's own word for its default where that is not the field's."""
DEFAULTS: Mapping[str, Json] = MappingProxyType(
    {MODEL: "", VAE: "Automatic", **SHOWN, **{name: acting.neutral for name, acting in FIELD_OF.items()}, **_A1111S}
)
"""Every option with its value where nobody changed it."""
PROTECTED = frozenset(
    {
        *("api_enable_requests", "api_forbid_local_requests", "api_useragent", "restore_config_state_file"),
        *("disabled_extensions", "disable_all_extensions", "samples_filename_pattern"),
        *(name for name in SHOWN if name.startswith("outdir_")),
    }
)
"""What names files, or would let the server do what it does not: no request changes it."""
READ_ONLY = frozenset({MODEL, "sd_checkpoint_hash"})
"""What is not kept here: the model is loaded, and its hash is what it is."""
LONGEST = 4096
"""Characters of an option's value."""


@dataclass(slots=True)
class Said:
    """Fields that options ask for, and what is to be told of options that do not act."""

    fields: dict[str, Json] = field(default_factory=dict[str, Json])
    warnings: list[str] = field(default_factory=list[str])


def acting(options: Mapping[str, object], catalogue: Catalogue, *, image: bool, mask: bool) -> Said:
    """What options ask for. image, mask: what the request comes with. Raises BadInput for a value that is none."""
    said = Said()
    for name, value in options.items():
        if name in FIELD_OF and value is not None:
            _act(said, name, FIELD_OF[name], value, image=image, mask=mask)
        elif name == MODEL and value:
            _choose_model(said, catalogue, value)
        elif name == VAE:
            _choose_vae(said, catalogue, value)
        elif name in PROTECTED:
            _is_as_it_was(name, value)
        elif name not in DEFAULTS:
            said.warnings.append(f"override_settings: {name[:80]!r} has no effect here")
    return said


def _act(said: Said, name: str, act: Acting, value: object, *, image: bool, mask: bool) -> None:
    read = _of_field(name, act, value)
    means = (act.img2img if image else act.txt2img) and (mask or not act.masked)
    if means and read != act.neutral:
        said.fields[act.field] = read


def _choose_model(said: Said, catalogue: Catalogue, value: object) -> None:
    """A model that is not there leaves the one that is, as in A1111."""
    found = find_model(catalogue, str(value))
    if found is None:
        said.warnings.append(f"{MODEL}: model {str(value)[:200]!r} not found; the current model is used")
    else:
        said.fields["model"] = found.name


def _choose_vae(said: Said, catalogue: Catalogue, value: object) -> None:
    """An autoencoder that is not there leaves the model's own, as in A1111."""
    if isinstance(value, str) and value.strip().casefold() in NONE:
        return
    found = find_autoencoder(catalogue, str(value))
    if found is None:
        said.warnings.append(f"{VAE}: autoencoder {str(value)[:200]!r} not found; the model's own is used")
    else:
        said.fields["vae"] = found.name


def checked(name: str, read: Read, value: object) -> Json:
    """The value of an option. Raises BadInput, which names it."""
    try:
        return read(value)
    except ValueError as error:
        raise BadInput(f"{name} {str(value)[:60]!r}: {error}") from None


_ALONE: Mapping[str, object] = MappingProxyType({"prompt": "", "image": "upload:", "mask": "upload:"})
"""What a request has to have so that one more field of it can be looked at."""


def _of_field(name: str, act: Acting, value: object) -> Json:
    """The value of an option as its field has it. Raises BadInput, which names the option, beyond the field's limits.

    A neutral value need not be one that the field takes.
    """
    read = checked(name, act.read, value)
    if read == act.neutral:
        return read
    try:
        request_of({**_ALONE, act.field: read})
    except BadInput as error:
        raise BadInput(f"{name} {str(value)[:60]!r}: {str(error).partition(': ')[2] or error}") from None
    return read


def _picture_kind(value: object) -> Json:
    if str(value).casefold() not in KINDS:
        raise ValueError(f"invalid image format; one of {', '.join(KINDS)}")
    return str(value)


def _percent(value: object) -> Json:
    found = whole(value)
    if not 1 <= found <= 100:
        raise ValueError("must be a whole number from 1 to 100")
    return found


_FILES: Mapping[str, Read] = MappingProxyType({"samples_format": _picture_kind, "jpeg_quality": _percent})
"""How the options of the files that are sent are read."""


def usable(stored: Mapping[str, Json]) -> tuple[dict[str, Json], list[str]]:
    """Of options from a file those that may stand there, and why the others may not: they would refuse each request."""
    found: dict[str, Json] = {}
    reasons: list[str] = []
    for name, value in stored.items():
        try:
            found |= changes({name: value})
        except (BadInput, Refused) as error:
            reasons.append(str(error) if isinstance(error, BadInput) else error.problem.message)
    return found, reasons


def changes(sent: Mapping[str, object]) -> dict[str, Json]:
    """Of options that a client posts those that are kept, checked. Raises BadInput for one that there is not,
    Refused for one that is protected.

    null for what there is not changes nothing, as in A1111.
    """
    kept: dict[str, Json] = {}
    for name, value in sent.items():
        if name in READ_ONLY or (name not in DEFAULTS and value is None) or _is_as_it_was(name, value):
            continue
        if name not in DEFAULTS:
            raise BadInput(f"option {name[:80]!r}: there is no such option; GET /sdapi/v1/options lists all")
        kept[name] = _kept(name, value)
    return {name: value for name, value in kept.items() if value is not None or DEFAULTS[name] is None}


def _is_as_it_was(name: str, value: object) -> bool:
    """Whether a protected option is left alone. Raises Refused (403) where it is not."""
    if name in PROTECTED and value is not None and value != DEFAULTS[name]:
        raise Refused(Problem(403, "Forbidden", f"option {name}: no request may change it", name))
    return name in PROTECTED


def _kept(name: str, value: object) -> Json:
    if name in FIELD_OF:
        _of_field(name, FIELD_OF[name], value)
        kept = cast("Json", value)
    elif name in _FILES:
        kept = checked(name, _FILES[name], value)
    elif DEFAULTS[name] is None or type(value) is type(DEFAULTS[name]):
        kept = cast("Json", value)
    else:
        kept = checked(name, _as(DEFAULTS[name]), value)
    if len(str(kept)) > LONGEST:
        raise BadInput(f"{name}: at most {LONGEST} characters are kept")
    return kept


def _as(default: Json) -> Read:
    """How a value of the kind of a default is read."""
    match default:
        case bool():
            return flag
        case int():
            return whole
        case float():
            return number
        case str():
            return _named
        case _:
            return _refused


def _refused(_: object) -> Json:
    raise ValueError("a list is needed")
