"""The rare options of a request by theme, and how a bad value becomes one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, ClassVar, Self, TypeVar, cast, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from atelier.errors import BadInput, about, nearest
from atelier.request import fields as f
from atelier.request.controls import MAX_CONTROLS, parse_control, parse_face, parse_reference
from atelier.request.fields import PIXELS, SIDE_STEP, Help, Limits, Option
from atelier.request.pictures import as_text
from atelier.request.regions import MAX_REGIONS, parse_region
from atelier.request.spoken import split

T = TypeVar("T")
PATHS = frozenset({"model", "refiner", "output", "image", "mask", "depth", "vae", "text_encoders"})
PROMPTS = frozenset({"prompt", "negative_prompt", "hires_prompt", "hires_negative_prompt"})
"""What may be empty."""
DIGITS = 9
"""Of a side in pixels: more are no size."""


def _with_help(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Puts the help of every field into a JSON schema."""
    for name, property_ in schema["properties"].items():
        help_ = annotation_of(model, name, Help)
        if help_ is not None:
            property_["description"] = help_.text


class Group(BaseModel):
    """Fields of a request. A group that exists is within its limits: a bad value raises BadInput, in one line.

    prefix: what the names of its fields begin with where all fields of a request stand side by side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, json_schema_extra=_with_help)
    prefix: ClassVar[str] = ""

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: object, info: ValidationInfo) -> object:
        """A path is its text, an image in memory too, and the text of a size the two numbers."""
        if isinstance(value, os.PathLike):
            return os.fspath(cast("os.PathLike[str]", value))
        value = as_text(str(info.field_name), value)
        is_size = isinstance(value, str) and kind_of(cls, str(info.field_name)) == tuple[int, int]
        return size_of(str(value)) if is_size else value

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: object, info: ValidationInfo) -> object:
        for text in _texts(value):
            _check_text(cls.prefix + str(info.field_name), text)
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise BadInput(_one_line(cls, error)) from None


def _texts(value: object) -> list[str]:
    """The text that a value is, or those in it."""
    parts = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    return [part for part in parts if isinstance(part, str)]


def _check_text(name: str, text: str) -> None:
    """Refuses a name that is none, and what no file of text can hold: half characters (bytes of a command line that are
    no UTF-8) and NUL.

    In names of files half characters stand for such bytes, and are meant.
    """
    if not (text.strip() or name in PROMPTS):
        raise BadInput(f"{name} is empty: say which, or leave it out")
    for position, character in enumerate(text):
        if character == "\0" or (name not in PATHS and "\ud800" <= character <= "\udfff"):
            raise BadInput(f"{name} holds {character!r} at position {position}, which is no character: take it out")


class Prompting(Group):
    """How prompts are read."""

    styles: f.Styles = ()
    choices: f.Choices = True
    emphasis: f.EmphasisMode = "Original"
    clip_skip: f.ClipSkip | None = None
    old_timelines: f.OldTimelines = False
    lenient: f.Lenient = False
    lora_hashes: f.LoraHashes | None = None
    ti_hashes: f.TiHashes | None = None


class Refining(Group):
    """The model that takes the end of the sampling over. There is one where it is named."""

    refiner: f.Refiner | None = None
    refiner_switch_at: f.RefinerSwitchAt = 0.8
    refiner_by_steps: f.RefinerBySteps = False
    hires_refiner: f.HiresRefiner = "second pass"


class Noise(Group):
    """Where noise comes from."""

    rng: f.NoiseRng = "portable"
    variation_seed: f.VariationSeed | None = None
    variation_strength: f.VariationStrength = 0.0
    seed_resize: f.SeedResize | None = None
    ensd: f.Ensd = 0
    sgm_noise_multiplier: f.SgmNoiseMultiplier = False


class Sampling(Group):
    """Options of samplers and schedules."""

    eta: f.Eta | None = None
    eta_ddim: f.EtaDdim | None = None
    s_churn: f.Churn = 0.0
    s_tmin: f.ChurnMin = 0.0
    s_tmax: f.ChurnMax = 0.0
    s_noise: f.NoiseFactor = 1.0
    sigma_min: f.SigmaMin = 0.0
    sigma_max: f.SigmaMax = 0.0
    rho: f.Rho = 0.0
    discard_penultimate_sigma: f.DiscardPenultimateSigma | None = None
    downcast_alphas: f.DowncastAlphas = False
    noise_schedule: f.NoiseSchedule = "Default"
    beta_alpha: f.BetaAlpha | None = None
    beta_beta: f.BetaBeta | None = None
    unipc_variant: f.UniPCVariant | None = None
    unipc_order: f.UniPCOrder | None = None
    unipc_lower_order_final: f.UniPCLowerOrderFinal | None = None


class Guidance(Group):
    """Where and how guidance acts, beside its scale."""

    cfg_rescale: f.CfgRescale = 0.0
    skip_early_cfg: f.SkipEarlyCfg = 0.0
    ngms: f.Ngms = 0.0
    ngms_all_steps: f.NgmsAllSteps = False
    pag_scale: f.PagScale = 0.0
    pag_layers: f.PagLayers = "auto"
    sag_scale: f.SagScale = 0.0
    sag_blur_sigma: f.SagBlur = 2.0
    apg_eta: f.ApgEta = 1.0
    apg_norm_threshold: f.ApgNormThreshold = 0.0
    apg_momentum: f.ApgMomentum = 0.0
    mimic_scale: f.MimicScale = 0.0
    mimic_percentile: f.MimicPercentile = 100.0
    mimic_phi: f.MimicPhi = 1.0
    perp_neg_scale: f.PerpNegScale = 0.0
    slg_scale: f.SlgScale = 0.0
    freeu_b1: f.FreeuB1 = 1.0
    freeu_b2: f.FreeuB2 = 1.0
    freeu_s1: f.FreeuS1 = 1.0
    freeu_s2: f.FreeuS2 = 1.0
    freeu_version: f.FreeuVersion = "2"
    cfg_interval_low: f.CfgIntervalLow = 0.0
    cfg_interval_high: f.CfgIntervalHigh = 0.0
    clip_guidance_scale: f.ClipGuidanceScale = 0.0


class Source(Group):
    """The image to start from."""

    image: f.SourceImage
    resize_mode: f.ResizeMode = "stretch"
    exact_steps: f.ExactSteps = False
    noise_multiplier: f.NoiseMultiplier = 1.0
    extra_noise: f.ExtraNoise = 0.0
    color_correction: f.ColorCorrection = False
    image_cfg_scale: f.ImageCfgScale = 1.5
    noise_level: f.NoiseLevel = 20
    outpaint: f.Outpaint | None = None


class Inpaint(Group):
    """Which part of the image is made anew."""

    mask: f.MaskImage
    mask_mode: f.MaskMode = "Inpaint masked"
    mask_blur: f.MaskBlur = 4.0
    masked_content: f.MaskedContent = "original"
    inpaint_area: f.InpaintArea = "Whole picture"
    masked_area_padding: f.MaskedAreaPadding = 32
    conditional_mask_weight: f.ConditionalMaskWeight = 1.0
    soft_inpainting: f.SoftInpainting = False
    soft_inpainting_schedule_bias: f.SoftInpaintingScheduleBias = 1.0
    soft_inpainting_preservation_strength: f.SoftInpaintingPreservationStrength = 0.5
    soft_inpainting_transition_contrast_boost: f.SoftInpaintingTransitionContrastBoost = 4.0
    soft_inpainting_mask_influence: f.SoftInpaintingMaskInfluence = 0.0
    soft_inpainting_difference_threshold: f.SoftInpaintingDifferenceThreshold = 0.5
    soft_inpainting_difference_contrast: f.SoftInpaintingDifferenceContrast = 2.0


class Layout(Group):
    """What is where in the image, and whether its edges meet."""

    regions: f.Regions = ()
    region_method: f.RegionMethod = "latent"
    region_ground: f.RegionGround | None = None
    tile: f.Tile = "none"

    @field_validator("regions", mode="before")
    @classmethod
    def _as_several(cls, value: object) -> object:
        return split(value) if isinstance(value, str) else value

    @field_validator("regions")
    @classmethod
    def _can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > MAX_REGIONS:
            raise BadInput(f"{len(value)} regions: at most {MAX_REGIONS} are generated")
        for text in value:
            parse_region(text)
        return value


class Steering(Group):
    """Images beside the prompt."""

    controls: f.Controls = ()
    references: f.References = ()
    faces: f.Faces = ()

    @field_validator("controls", "references", "faces", mode="before")
    @classmethod
    def _as_several(cls, value: object) -> object:
        return split(value) if isinstance(value, str) else value

    @field_validator("controls")
    @classmethod
    def _are_controls(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _read("controls", value, parse_control)

    @field_validator("references")
    @classmethod
    def _are_references(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _read("references", value, parse_reference)

    @field_validator("faces")
    @classmethod
    def _are_faces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _read("faces", value, parse_face)


def _read(name: str, texts: tuple[str, ...], parse: Callable[[str], object]) -> tuple[str, ...]:
    """The texts, when all can be read. Raises BadInput."""
    if len(texts) > MAX_CONTROLS:
        with about(name):
            raise BadInput(f"{len(texts)} {name}: at most {MAX_CONTROLS} act at once")
    for text in texts:
        parse(text)
    return texts


class Views(Group):
    """How an image larger than the model's is generated view by view."""

    prefix: ClassVar[str] = "view_"

    method: f.ViewMethod
    width: f.ViewWidth | None = None
    height: f.ViewHeight | None = None
    overlap: f.ViewOverlap | None = None

    @field_validator("width", "height")
    @classmethod
    def _fits(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None:
            check_side(cls.prefix + str(info.field_name), value, SIDE_STEP)
        return value


class Sizes(Group):
    """What Stable Diffusion XL is told of the image beside the text."""

    original_size: f.OriginalSize | None = None
    crop_top: f.CropTop = 0
    crop_left: f.CropLeft = 0
    target_size: f.TargetSize | None = None
    negative_original_size: f.NegativeOriginalSize | None = None
    negative_crop_top: f.NegativeCropTop | None = None
    negative_crop_left: f.NegativeCropLeft | None = None
    negative_target_size: f.NegativeTargetSize | None = None
    aesthetic_score: f.AestheticScore = 6.0
    negative_aesthetic_score: f.NegativeAestheticScore = 2.5

    @model_validator(mode="after")
    def _is_a_size(self) -> Self:
        sizes = {
            "original_size": self.original_size,
            "target_size": self.target_size,
            "negative_original_size": self.negative_original_size,
            "negative_target_size": self.negative_target_size,
        }
        for name, size in sizes.items():
            if size is not None and max(size) and not min(size):
                raise BadInput(f"{name} {size[0]}x{size[1]}: both sides need at least 1 pixel")
        return self


class SdUpscale(Group):
    """The image to start from enlarged, and generated again tile by tile."""

    prefix: ClassVar[str] = "sd_upscale_"

    factor: f.SdUpscaleFactor = 2.0
    overlap: f.SdUpscaleOverlap | None = None
    upscaler: f.SdUpscaleUpscaler = "Lanczos"


class Postprocess(Group):
    """What is done to finished images. Something is where it is said how large they become."""

    prefix: ClassVar[str] = "postprocess_"

    upscale_by: f.PostprocessUpscaleBy | None = None
    upscale_to: f.PostprocessUpscaleTo | None = None
    upscaler: f.PostprocessUpscaler = "Lanczos"
    upscaler_2: f.PostprocessUpscaler2 | None = None
    upscaler_2_visibility: f.PostprocessVisibility = 0.5

    @property
    def is_asked(self) -> bool:
        return self.upscale_by is not None or max(self.upscale_to or (0, 0)) > 0

    @property
    def other(self) -> str | None:
        """The second upscaler, if it is seen: A1111's None is none."""
        name = self.upscaler_2
        return None if name is None or name.strip() == "None" or not self.upscaler_2_visibility else name


class Autoencoder(Group):
    """How images become latents and back."""

    prefix: ClassVar[str] = "vae_"

    strips: f.VaeStrips = "auto"


class Hires(Group):
    """The second pass. There is one where it is said how large, or what enlarges."""

    prefix: ClassVar[str] = "hires_"

    upscale: f.HiresUpscale | None = None
    resize: f.HiresResize | None = None
    steps: f.HiresSteps | None = None
    upscaler: f.HiresUpscaler | None = None
    checkpoint: f.HiresCheckpoint | None = None
    sampler: f.HiresSampler | None = None
    scheduler: f.HiresScheduler | None = None
    prompt: f.HiresPrompt | None = None
    negative_prompt: f.HiresNegativePrompt | None = None
    cfg_scale: f.HiresCfgScale | None = None
    denoising_strength: f.HiresDenoisingStrength | None = None

    @property
    def is_asked(self) -> bool:
        """Whether there is a second pass: A1111's rule."""
        return self.upscale is not None or self.upscaler is not None or max(self.resize or (0, 0)) > 0


def size_of(text: str) -> tuple[int, int] | str:
    """512x768 as two numbers; everything else as it is."""
    width, times, height = text.strip().casefold().partition("x")
    is_size = times and all(side.isdecimal() and len(side) <= DIGITS for side in (width, height))
    return (int(width), int(height)) if is_size else text


def check_side(name: str, side: int, step: int) -> None:
    """Raises BadInput with the nearest good sizes if `side` pixels are no multiple of `step`."""
    if side % step == 0:
        return
    below = side - side % step
    near = [str(s) for s in (below, below + step) if PIXELS.low <= s <= PIXELS.high]
    raise BadInput(f"{name} {side} is not a multiple of {step}: use {' or '.join(near)}")


def bare(annotation: object) -> object:
    """A type without None: `Steps | None` is `Steps`."""
    kept = [part for part in get_args(annotation) if part is not type(None)]
    return kept[0] if len(kept) == 1 and type(None) in get_args(annotation) else annotation


def annotation_of(model: type[BaseModel], name: str, kind: type[T]) -> T | None:
    """What of a kind (Limits, Help, …) `request.fields` says of a field, or of the numbers in it."""
    return _found(_annotations(model)[name], kind)


@cache
def _annotations(model: type[BaseModel]) -> dict[str, object]:
    return get_type_hints(model, include_extras=True)


def _found(annotation: object, kind: type[T]) -> T | None:
    for part in get_args(annotation):
        found = part if isinstance(part, kind) else _found(part, kind)
        if found is not None:
            return found
    return None


def kind_of(model: type[BaseModel], name: str) -> object:
    """The type of a field, without None and without what is said of it."""
    return bare(_types(model)[name])


@cache
def _types(model: type[BaseModel]) -> dict[str, object]:
    return get_type_hints(model)


def groups_of(model: type[BaseModel]) -> Iterator[tuple[str, type[Group]]]:
    """The fields of a model that are groups."""
    for name, info in model.model_fields.items():
        kind = bare(info.annotation)
        if isinstance(kind, type) and issubclass(kind, Group):
            yield name, kind


def flat_names(model: type[Group]) -> tuple[str, ...]:
    """The names of all fields of a model, those of its groups in place of the groups."""
    groups = dict(groups_of(model))
    own = tuple(model.prefix + name for name in model.model_fields if name not in groups)
    return (*own, *(name for group in groups.values() for name in flat_names(group)))


def unknown(name: str, known: tuple[str, ...]) -> BadInput:
    return BadInput(f"unknown field {name!r}: {nearest(name, known)}")


def _one_line(model: type[Group], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return f"{model.__name__.lower()} {_shown(first['input'])}: {_lowered(first['msg'])}"
    own = str(first["loc"][0])
    name = model.prefix + own
    match first["type"]:
        case "extra_forbidden":
            return _no_such_field(model, own)
        case "missing":
            return f"{name} is missing{_by_option(model, own)}"
        case _:
            return f"{name} {_shown(first['input'])}: {_way_out(model, own, first['msg'])}"


def _by_option(model: type[Group], name: str) -> str:
    """The way out for a field that lacks, where the command line has an option for it."""
    option = annotation_of(model, name, Option)
    if option is None or option.panel == "Prompt":
        return ""
    return f": give {option.names[0] if option.names else '--' + name.replace('_', '-')}"


def _no_such_field(model: type[Group], name: str) -> str:
    home = next((group for group, kind in groups_of(model) if name in flat_names(kind)), None)
    if home is None:
        return str(unknown(name, flat_names(model)))
    return f"unknown field {name!r}: it is a field of the group {home!r}"


def _way_out(model: type[Group], name: str, message: str) -> str:
    kind = kind_of(model, name)
    limits = annotation_of(model, name, Limits)
    if kind is bool:
        return "say yes or no (true or false in Python and JSON)"
    if kind == tuple[str, ...]:
        return "must be a list of names"
    if limits is None:
        return _lowered(message)
    if kind == tuple[int, int]:
        return f"write a size such as 512x768, each side from {limits.low} to {limits.high}"
    number = "a number" if kind is float else "a whole number"
    return f"must be {number} from {limits.low} to {limits.high}"


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
