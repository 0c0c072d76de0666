"""All fields of a request side by side, by names that are unique over its groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from types import MappingProxyType
from typing import Literal, TypedDict, cast

from pydantic.fields import FieldInfo

from atelier.errors import BadInput
from atelier.request import fields as f
from atelier.request.events import Json
from atelier.request.fields import Help, Infotext, Limits, Option
from atelier.request.groups import Group, annotation_of, groups_of, kind_of, unknown
from atelier.request.model import Request
from atelier.request.pictures import Picture, Pictured

Kind = Literal["int", "float", "flag", "text", "size", "texts"]
_KINDS: Mapping[object, Kind] = {
    int: "int",
    float: "float",
    bool: "flag",
    tuple[int, int]: "size",
    tuple[str, ...]: "texts",
}


@dataclass(frozen=True, slots=True)
class RequestField:
    """One field. group: the attribute of a request that holds it, None for the request itself; own: its name there.

    default: None where it is left open, or needed. limits: of a number, or of each side of a size.
    """

    name: str
    group: str | None
    own: str
    kind: Kind
    default: object
    help: Help
    limits: Limits | None
    infotext: Infotext | None
    option: Option | None


class Fields(TypedDict, total=False):
    """The fields of a request but its prompt, by their names in FIELDS, for signatures."""

    negative_prompt: f.NegativePrompt
    model: f.Model | PathLike[str] | None
    model_hash: f.ModelHash | None
    vae: f.Vae | PathLike[str] | None
    text_encoders: f.TextEncoders
    steps: f.Steps | None
    sampler: f.Sampler | None
    scheduler: f.Scheduler | None
    cfg_scale: f.CfgScale | None
    seed: f.Seed | None
    width: f.Width | None
    height: f.Height | None
    batch_size: f.BatchSize
    batch_count: f.BatchCount
    output: f.Output | PathLike[str] | None
    styles: f.Styles
    choices: f.Choices
    emphasis: f.EmphasisMode
    clip_skip: f.ClipSkip | None
    old_timelines: f.OldTimelines
    lenient: f.Lenient
    lora_hashes: f.LoraHashes | None
    ti_hashes: f.TiHashes | None
    refiner: f.Refiner | PathLike[str] | None
    refiner_switch_at: f.RefinerSwitchAt
    refiner_by_steps: f.RefinerBySteps
    hires_refiner: f.HiresRefiner
    rng: f.NoiseRng
    variation_seed: f.VariationSeed | None
    variation_strength: f.VariationStrength
    seed_resize: f.SeedResize | None
    ensd: f.Ensd
    sgm_noise_multiplier: f.SgmNoiseMultiplier
    eta: f.Eta | None
    eta_ddim: f.EtaDdim | None
    s_churn: f.Churn
    s_tmin: f.ChurnMin
    s_tmax: f.ChurnMax
    s_noise: f.NoiseFactor
    sigma_min: f.SigmaMin
    sigma_max: f.SigmaMax
    rho: f.Rho
    discard_penultimate_sigma: f.DiscardPenultimateSigma | None
    downcast_alphas: f.DowncastAlphas
    noise_schedule: f.NoiseSchedule
    beta_alpha: f.BetaAlpha | None
    beta_beta: f.BetaBeta | None
    unipc_variant: f.UniPCVariant | None
    unipc_order: f.UniPCOrder | None
    unipc_lower_order_final: f.UniPCLowerOrderFinal | None
    cfg_rescale: f.CfgRescale
    skip_early_cfg: f.SkipEarlyCfg
    ngms: f.Ngms
    ngms_all_steps: f.NgmsAllSteps
    pag_scale: f.PagScale
    pag_layers: f.PagLayers
    sag_scale: f.SagScale
    sag_blur_sigma: f.SagBlur
    apg_eta: f.ApgEta
    apg_norm_threshold: f.ApgNormThreshold
    apg_momentum: f.ApgMomentum
    mimic_scale: f.MimicScale
    mimic_percentile: f.MimicPercentile
    mimic_phi: f.MimicPhi
    perp_neg_scale: f.PerpNegScale
    slg_scale: f.SlgScale
    freeu_b1: f.FreeuB1
    freeu_b2: f.FreeuB2
    freeu_s1: f.FreeuS1
    freeu_s2: f.FreeuS2
    freeu_version: f.FreeuVersion
    cfg_interval_low: f.CfgIntervalLow
    cfg_interval_high: f.CfgIntervalHigh
    clip_guidance_scale: f.ClipGuidanceScale
    denoising_strength: f.DenoisingStrength | None
    depth: f.DepthMap | PathLike[str] | Picture | None
    image: f.SourceImage | PathLike[str] | Picture
    resize_mode: f.ResizeMode
    exact_steps: f.ExactSteps
    noise_multiplier: f.NoiseMultiplier
    extra_noise: f.ExtraNoise
    color_correction: f.ColorCorrection
    image_cfg_scale: f.ImageCfgScale
    noise_level: f.NoiseLevel
    outpaint: f.Outpaint | None
    mask: f.MaskImage | PathLike[str] | Picture
    mask_mode: f.MaskMode
    mask_blur: f.MaskBlur
    masked_content: f.MaskedContent
    inpaint_area: f.InpaintArea
    masked_area_padding: f.MaskedAreaPadding
    conditional_mask_weight: f.ConditionalMaskWeight
    soft_inpainting: f.SoftInpainting
    soft_inpainting_schedule_bias: f.SoftInpaintingScheduleBias
    soft_inpainting_preservation_strength: f.SoftInpaintingPreservationStrength
    soft_inpainting_transition_contrast_boost: f.SoftInpaintingTransitionContrastBoost
    soft_inpainting_mask_influence: f.SoftInpaintingMaskInfluence
    soft_inpainting_difference_threshold: f.SoftInpaintingDifferenceThreshold
    soft_inpainting_difference_contrast: f.SoftInpaintingDifferenceContrast
    sd_upscale_factor: f.SdUpscaleFactor
    sd_upscale_overlap: f.SdUpscaleOverlap | None
    sd_upscale_upscaler: f.SdUpscaleUpscaler
    original_size: f.OriginalSize | None
    crop_top: f.CropTop
    crop_left: f.CropLeft
    target_size: f.TargetSize | None
    negative_original_size: f.NegativeOriginalSize | None
    negative_crop_top: f.NegativeCropTop | None
    negative_crop_left: f.NegativeCropLeft | None
    negative_target_size: f.NegativeTargetSize | None
    aesthetic_score: f.AestheticScore
    negative_aesthetic_score: f.NegativeAestheticScore
    controls: f.Controls | Sequence[str | Pictured]
    references: f.References | Sequence[str | Pictured]
    faces: f.Faces | Sequence[str | Pictured]
    regions: f.Regions | Sequence[str | Pictured]
    region_method: f.RegionMethod
    region_ground: f.RegionGround | None
    tile: f.Tile
    view_method: f.ViewMethod
    view_width: f.ViewWidth | None
    view_height: f.ViewHeight | None
    view_overlap: f.ViewOverlap | None
    hires_upscale: f.HiresUpscale | None
    hires_resize: f.HiresResize | None
    hires_steps: f.HiresSteps | None
    hires_upscaler: f.HiresUpscaler | None
    hires_checkpoint: f.HiresCheckpoint | PathLike[str] | None
    hires_sampler: f.HiresSampler | None
    hires_scheduler: f.HiresScheduler | None
    hires_prompt: f.HiresPrompt | None
    hires_negative_prompt: f.HiresNegativePrompt | None
    hires_cfg_scale: f.HiresCfgScale | None
    hires_denoising_strength: f.HiresDenoisingStrength | None
    postprocess_upscale_by: f.PostprocessUpscaleBy | None
    postprocess_upscale_to: f.PostprocessUpscaleTo | None
    postprocess_upscaler: f.PostprocessUpscaler
    postprocess_upscaler_2: f.PostprocessUpscaler2 | None
    postprocess_upscaler_2_visibility: f.PostprocessVisibility
    vae_strips: f.VaeStrips


def request_of(fields: Mapping[str, object]) -> Request:
    """The request of fields by their names in FIELDS: each goes into its group. Raises BadInput."""
    if not isinstance(fields, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise BadInput(f"fields {fields!r}: give a mapping of names to values, such as {{'prompt': 'a red apple'}}")
    top: dict[str, object] = {}
    groups: dict[str, dict[str, object]] = {}
    for name, value in fields.items():
        if name not in FIELDS:
            raise _unknown(name)
        field = FIELDS[name]
        (top if field.group is None else groups.setdefault(field.group, {}))[field.own] = value
    return Request.model_validate({**top, **groups})


def _unknown(name: object) -> BadInput:
    """The error for a name that no field has; a group is told apart."""
    if not isinstance(name, str):
        return BadInput(f"{name!r} is no name of a field: names are text, such as 'steps'")
    group, _, own = name.partition(".")
    if group in dict(groups_of(Request)):
        known = ", ".join(field.name for field in FIELDS.values() if field.group == group)
        return BadInput(f"{name} is no field: {group} is a group, name one of its fields ({own or known})")
    return unknown(name, tuple(FIELDS))


def flat(fields: Group) -> dict[str, object]:
    """The values of a request's fields by their names in FIELDS; without those of a group that is None."""
    found: dict[str, object] = {}
    groups = dict(groups_of(type(fields)))
    for name, value in fields:
        if isinstance(value, Group):
            found |= flat(value)
        elif name not in groups:
            found[fields.prefix + name] = value
    return found


def given(fields: Group) -> frozenset[str]:
    """The names in FIELDS of the fields that were given, rather than left at their defaults."""
    names: set[str] = set()
    for name, value in fields:
        if isinstance(value, Group):
            names |= given(value)
        elif name in fields.model_fields_set:
            names.add(fields.prefix + name)
    return frozenset(names)


def said(request: Group) -> dict[str, Json]:
    """The fields that were given, by their names in FIELDS, as JSON has them."""
    names = given(request)
    return {name: plain(value) for name, value in flat(request).items() if name in names}


def plain(value: object) -> Json:
    """A value of a field as JSON has it: a tuple as a list, what JSON does not know as its text."""
    if isinstance(value, tuple):
        return [plain(part) for part in cast("tuple[object, ...]", value)]
    return value if isinstance(value, None | bool | int | float | str) else str(value)


def _all(model: type[Group], group: str | None = None) -> Iterator[RequestField]:
    groups = dict(groups_of(model))
    for own, info in model.model_fields.items():
        if own in groups:
            yield from _all(groups[own], own)
        else:
            yield _field(model, group, own, info)


def _field(model: type[Group], group: str | None, own: str, info: FieldInfo) -> RequestField:
    meaning = annotation_of(model, own, Help)
    if meaning is None:
        raise TypeError(f"{model.__name__}.{own} has no Help")
    return RequestField(
        name=model.prefix + own,
        group=group,
        own=own,
        kind=_KINDS.get(kind_of(model, own), "text"),
        default=None if info.is_required() else info.default,
        help=meaning,
        limits=annotation_of(model, own, Limits),
        infotext=annotation_of(model, own, Infotext),
        option=annotation_of(model, own, Option),
    )


FIELDS: Mapping[str, RequestField] = MappingProxyType({field.name: field for field in _all(Request)})
"""By name, in the order of the request."""
