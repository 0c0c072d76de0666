"""From a request to one with nothing left open: names looked up, defaults filled in, seeds and choices drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from atelier.errors import BadInput, about, shortened
from atelier.request.fields import SIDE_STEP, STEPS
from atelier.request.groups import Guidance, Hires, Inpaint, SdUpscale, Sizes, check_side
from atelier.request.guidances import SWITCHED, USUAL
from atelier.request.model import Request
from atelier.request.outpaint import Margins, margins
from atelier.request.regions import Region, parse_region
from atelier.request.resolved import (
    AsMade,
    BoxPlace,
    ByFactor,
    DepthChannels,
    EstimatedDepth,
    GivenDepth,
    ImageChannels,
    ImageRef,
    MaskedChannels,
    MaskPlace,
    ModelRef,
    NamedUpscaler,
    NoChannels,
    NoHires,
    NoisedChannels,
    NoMask,
    NoPostprocess,
    NoRefiner,
    NoRegions,
    NoSoftness,
    NoSource,
    NoUpscale,
    NoViews,
    PassPrompts,
    RegionPrompts,
    Resolved,
    ResolvedChannels,
    ResolvedGuidance,
    ResolvedHires,
    ResolvedMask,
    ResolvedNoise,
    ResolvedOutpaint,
    ResolvedOutput,
    ResolvedPostprocess,
    ResolvedPrompting,
    ResolvedRefiner,
    ResolvedRegion,
    ResolvedRegions,
    ResolvedSampling,
    ResolvedSizes,
    ResolvedSoftness,
    ResolvedSource,
    ResolvedTiling,
    ResolvedUpscale,
    ResolvedViews,
    SaidSize,
    SampleSettings,
    Size,
    ToCover,
)
from atelier.request.second_pass import PIXELS as LARGER
from atelier.request.second_pass import Enlarger, second_pass, second_sizes
from atelier.request.table import given

DRAWN_SEEDS = 2**32
ALL_SEEDS = 2**64
NO_LIMIT = 10.0**9
"""A sigma above every model's: where s_tmax says nothing."""
STRENGTH = 0.75
"""Of an image to start from, as in A1111."""
OVERLAP = 64
"""Pixels that tiles of an enlarged image share, as in A1111."""
TRANSPARENT = "alpha"
"""The mask that is what the image itself shows through."""

SAME = (Guidance.model_fields.keys() & ResolvedGuidance.model_fields.keys()) - {"cfg_interval_high", "pag_layers"}
"""Settings of guidance that a request and what is resolved of it call alike."""

USUAL_GROUND: Mapping[str, float] = {"latent": 0.0, "attention": 0.6}
"""By method: the share of the steps in which regions stand alone where a request says none. Attention alone finds no
place for a second thing (measured: docs/regions.md)."""

OPTIONS: Mapping[str, str] = {
    **{name: name for name in ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise", "sigma_min", "sigma_max", "rho")},
    "beta_alpha": "alpha",
    "beta_beta": "beta",
    "unipc_order": "order",
    "unipc_variant": "variant",
    "unipc_lower_order_final": "lower_order_final",
}
"""Fields of a request that only some samplers and schedules read, and what those and ResolvedSampling call them."""

Beside = Literal["nothing", "mask", "image", "depth", "small"]
"""What a network sees beside the latent: nothing more, the mask and what it leaves of the image, the image, a map of
depths, or a small image that it makes larger."""

Measure = Callable[[str], tuple[int, int]]
"""A path -> the width and height of the image there, in pixels."""

Draw = Callable[[str, str, int], str]
"""(a prompt, what it is called, a seed) -> the prompt with its choices made."""


@dataclass(frozen=True, slots=True)
class Method:
    """A sampler with a schedule.

    own: its sampling where a request leaves everything open, for the levels that it was looked up for; reads: those of
    the values of OPTIONS that it reads; steps: how many there are whatever is asked for, of a list of sigmas.
    """

    own: ResolvedSampling
    reads: frozenset[str]
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class RequestDefaults:
    """What a request has where it leaves it open. side_step: pixels that each side must be a multiple of; latent_step:
    pixels of one position of the latents; beside: what the network sees beside the latent; pag_layers: what PAG
    perturbs."""

    steps: int
    cfg_scale: float
    width: int
    height: int
    side_step: int
    latent_step: int
    beside: Beside = "nothing"
    pag_layers: str = "middle"


@dataclass(frozen=True, slots=True)
class Offer:
    """What there is to choose from, for the model that the request named.

    method, emphasis, upscaler, source_upscaler, finishers: what the request's names mean; draw: makes the choices of a
    prompt; refer: fixes what lies in an image file; measure: its width and height in pixels; second, second_model: the
    method and the model of a second pass, None for those of the first; refiner: the model that takes over, None for
    none; refiner_alike: whether it is of the model's family.
    """

    model: ModelRef
    defaults: RequestDefaults
    method: Method
    emphasis: str
    draw: Draw
    refer: Callable[[str], ImageRef]
    measure: Measure
    upscaler: Enlarger = field(default_factory=lambda: Enlarger("Latent"))
    source_upscaler: Enlarger = field(default_factory=lambda: Enlarger("Lanczos"))
    finishers: tuple[Enlarger, ...] = field(default_factory=lambda: (Enlarger("Lanczos"),))
    second: Method | None = None
    second_model: ModelRef | None = None
    refiner: ModelRef | None = None
    refiner_alike: bool = False


def resolve(request: Request, offer: Offer, random_: random.Random | None = None) -> Resolved:
    """The request made total, but for the networks that its prompts and its steering name. Its styles must be in its
    prompts already. `random_` gives the seeds that were left open (fresh ones if None).

    Raises BadInput for a size that the model cannot generate, and for too many steps.
    """
    added = _margins(request, offer.defaults, offer.measure)
    size = _first_size(request, offer.defaults, offer.measure, added)
    samples = tuple(_samples(request, offer.draw, random_ or random.SystemRandom()))
    resolved = Resolved(
        model=offer.model,
        adapters=(),
        inversions=(),
        size=size,
        batch_size=request.batch_size,
        samples=samples,
        prompting=_prompting(request, offer.emphasis),
        noise=_noise(request, offer.defaults.latent_step),
        sampling=_sampling(request, offer.method, offer.defaults),
        guidance=_guidance(request, offer.defaults),
        source=_source(request, offer, added),
        channels=_channels(request, offer.defaults.beside, offer.refer),
        sizes=_sizes(request.sizes),
        negative_sizes=_negative_sizes(request.sizes),
        regions=_regions(request, offer, size),
        steering=(),
        views=_views(request, offer.defaults, size),
        tiling=ResolvedTiling(x="x" in request.layout.tile, y="y" in request.layout.tile),
        hires=_hires(request, offer, size, samples),
        refiner=_refiner(request, offer),
        postprocess=_postprocess(request, offer.finishers),
        vae_strips=request.autoencoder.strips,
        output=ResolvedOutput(folders=() if request.output is None else (request.output,)),
    )
    _check_together(resolved)
    return resolved


def _prompting(request: Request, emphasis: str) -> ResolvedPrompting:
    return ResolvedPrompting(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        emphasis=emphasis,
        clip_skip=request.prompting.clip_skip or 1,
        old_timelines=request.prompting.old_timelines,
    )


def ignored(request: Request, method: Method) -> list[str]:
    """The options asked for that neither the sampler nor the schedule reads, by their names in a request."""
    requested = given(request) & OPTIONS.keys()
    return sorted(name for name in requested if OPTIONS[name] not in method.reads)


def _check_together(resolved: Resolved) -> None:
    """Raises BadInput for what cannot be done at once."""
    channels, guidance = resolved.channels, resolved.guidance
    if isinstance(channels, ImageChannels) and channels.scale != 1:
        scales = {
            "PAG": guidance.pag_scale,
            "SAG": guidance.sag_scale,
            "Perp-Neg": guidance.perp_neg_scale,
            "SLG": guidance.slg_scale,
        }
        for name in (name for name, scale in scales.items() if scale):
            raise BadInput(f"{name} and guidance by the image cannot be combined: set image_cfg_scale to 1")


def pass_sizes(request: Request, own: RequestDefaults, measure: Measure) -> tuple[Size, ...]:
    """Of the image of each pass. Raises BadInput for what cannot be generated."""
    first = _first_size(request, own, measure, _margins(request, own, measure))
    hires = request.hires
    return (first,) if hires is None or not hires.is_asked else (first, second_sizes(hires, first, own.side_step)[0])


def _first_size(request: Request, own: RequestDefaults, measure: Measure, added: Margins | None) -> Size:
    if own.beside == "small":
        return _grown(request, own, measure)
    if request.sd_upscale is not None:
        return _enlarged(request, request.sd_upscale, own, measure)
    return _size(request, own) if added is None else _canvas(request, added, measure)


def _grown(request: Request, own: RequestDefaults, measure: Measure) -> Size:
    """What an upscaling model makes of an image: each pixel becomes a position of the latent. Raises BadInput."""
    if request.source is None:
        raise BadInput("this is an upscaling model, which makes an image larger: give --image")
    others = {
        "mask": request.inpaint is not None,
        "outpaint": request.source.outpaint is not None,
        "a second pass": request.hires is not None and request.hires.is_asked,
        "sd_upscale": request.sd_upscale is not None,
        "denoising_strength": request.denoising_strength is not None,
    }
    for other in (name for name, is_there in others.items() if is_there):
        raise BadInput(f"this is an upscaling model, which starts from noise: leave out {other}")
    small = measure(request.source.image)
    size = Size(*(side * own.latent_step for side in small))
    asked = Size(request.width or size.width, request.height or size.height)
    if any(abs(side - own_side) >= SIDE_STEP for side, own_side in zip(asked, size, strict=True)):
        raise BadInput(
            f"this is an upscaling model, which makes {size.width}x{size.height} of the image: leave out width and "
            "height"
        )
    if not all(LARGER.low <= side <= LARGER.high for side in size):
        raise BadInput(
            f"{request.source.image} becomes {size.width}x{size.height}, each side must be from {LARGER.low} to "
            f"{LARGER.high}: cut or resize it first"
        )
    return size


def _enlarged(request: Request, upscale: SdUpscale, own: RequestDefaults, measure: Measure) -> Size:
    """Raises BadInput."""
    source, factor = request.source, upscale.factor
    if source is None:
        raise BadInput("sd_upscale enlarges an image: give --image")
    others = {"outpaint": source.outpaint is not None, "views": request.views is not None}
    for other in (name for name, is_there in others.items() if is_there):
        raise BadInput(f"sd_upscale and {other} cannot both be given: do one, and go on from the result")
    sides = [int(side * factor) for side in measure(source.image)]
    size = Size(*(side - side % own.side_step for side in sides))
    if not all(LARGER.low <= side <= LARGER.high for side in size):
        limits = f"{LARGER.low} to {LARGER.high}"
        raise BadInput(f"sd_upscale {factor:g}: makes {size.width}x{size.height}, each side must be from {limits}")
    return size


def _size(request: Request, own: RequestDefaults) -> Size:
    size = Size(request.width or own.width, request.height or own.height)
    for name, side in zip(("width", "height"), size, strict=True):
        check_side(name, side, own.side_step)
    return size


def _margins(request: Request, own: RequestDefaults, measure: Measure) -> Margins | None:
    """What is added around the image. Raises BadInput."""
    source = request.source
    if source is None or source.outpaint is None:
        return None
    if request.inpaint is not None:
        raise BadInput("outpaint and mask cannot both be given: outpainting makes a mask of its own")
    return margins(source.outpaint, measure(source.image), own.side_step)


def _canvas(request: Request, added: Margins, measure: Measure) -> Size:
    """Raises BadInput for another size that is asked for."""
    assert request.source is not None
    size = Size(*added.around(measure(request.source.image)))
    asked = Size(request.width or size.width, request.height or size.height)
    if asked != size:
        raise BadInput(
            f"outpaint gives {size.width}x{size.height}, and {asked.width}x{asked.height} is asked for: leave out "
            "width and height"
        )
    return size


def _samples(request: Request, draw: Draw, random_: random.Random) -> Iterator[SampleSettings]:
    """With a variation all images share the seed, and with it the choices of their prompts, and each has the next
    variation seed, as in A1111."""
    count, first = request.batch_size * request.batch_count, _seed(request.seed, random_)
    varied = request.noise.variation_strength > 0
    seeds = (first,) * count if varied else _following(first, count)
    variations = _following(_seed(request.noise.variation_seed, random_), count) if varied else (0,) * count
    chosen = draw if request.prompting.choices else _as_it_is
    regions = tuple(map(parse_region, request.layout.regions))
    for seed, variation in zip(seeds, variations, strict=True):
        texts = (request.prompt, "prompt"), (request.negative_prompt, "negative prompt")
        prompt, negative = (chosen(text, what, seed) for text, what in texts)
        yield SampleSettings(
            seed=seed,
            variation_seed=variation,
            prompt=prompt,
            negative_prompt=negative,
            regions=tuple(_region_prompts(region, negative, chosen, seed) for region in regions),
        )


def _as_it_is(text: str, what: str, seed: int) -> str:  # noqa: ARG001 - a Draw
    return text


def _region_prompts(region: Region, negative: str, chosen: Draw, seed: int) -> RegionPrompts:
    """Without a negative prompt of its own a region has that of the image."""
    own = region.negative_prompt
    return RegionPrompts(
        prompt=chosen(region.prompt, "prompt of a region", seed),
        negative_prompt=negative if own is None else chosen(own, "negative prompt of a region", seed),
    )


def _noise(request: Request, latent_step: int) -> ResolvedNoise:
    """A resize of nothing, or to less than one position of the latents, is none."""
    resized = Size(*(request.noise.seed_resize or (0, 0)))
    return ResolvedNoise(
        source=request.noise.rng,
        variation_strength=request.noise.variation_strength,
        resized_from=SaidSize(size=resized) if min(resized) >= latent_step else AsMade(),
        seed_delta=request.noise.ensd,
        unit_start=request.noise.sgm_noise_multiplier,
    )


def _sampling(request: Request, method: Method, own: RequestDefaults) -> ResolvedSampling:
    eta = (
        request.sampling.eta_ddim
        if method.own.is_ddim and request.sampling.eta_ddim is not None
        else request.sampling.eta
    )
    requested = {
        "eta": eta,
        "s_churn": request.sampling.s_churn,
        "s_tmin": request.sampling.s_tmin,
        "s_tmax": request.sampling.s_tmax or NO_LIMIT,
        "s_noise": request.sampling.s_noise,
        "sigma_min": request.sampling.sigma_min or None,
        "sigma_max": request.sampling.sigma_max or None,
        "rho": request.sampling.rho or None,
        "alpha": request.sampling.beta_alpha,
        "beta": request.sampling.beta_beta,
        "order": request.sampling.unipc_order,
        "variant": request.sampling.unipc_variant,
        "lower_order_final": request.sampling.unipc_lower_order_final,
    }
    changed = {name: value for name, value in requested.items() if value is not None and name in method.reads}
    if request.sampling.discard_penultimate_sigma is not None and method.steps is None:
        changed["discard_penultimate"] = request.sampling.discard_penultimate_sigma
    changed["steps"] = method.steps or request.steps or own.steps
    if changed["steps"] > STEPS.high:
        raise BadInput(f"the list of sigmas has {changed['steps']} steps: the limit is {STEPS.high:g}")
    return method.own.model_copy(update=changed)


def _guidance(request: Request, own: RequestDefaults) -> ResolvedGuidance:
    """What is switched off has its defaults, since it changes nothing."""
    guidance = request.guidance
    off = {name: getattr(USUAL, name) for switched in SWITCHED if switched.is_off(guidance) for name in switched.names}
    wanted = guidance.model_copy(update=off)
    return ResolvedGuidance(
        scale=own.cfg_scale if request.cfg_scale is None else request.cfg_scale,
        rescale=wanted.cfg_rescale,
        skip_early=wanted.skip_early_cfg,
        **{name: getattr(wanted, name) for name in SAME},
        cfg_interval_high=wanted.cfg_interval_high or NO_LIMIT,
        pag_layers=own.pag_layers if wanted.pag_layers == USUAL.pag_layers else wanted.pag_layers,
    )


def _source(request: Request, offer: Offer, added: Margins | None) -> NoSource | ResolvedSource:
    source, refer, upscale = request.source, offer.refer, request.sd_upscale
    if offer.defaults.beside == "small":
        return NoSource()
    if source is None:
        if request.inpaint is not None:
            raise BadInput("a mask needs an image that it belongs to: give --image")
        return NoSource()
    image = refer(source.image)
    return ResolvedSource(
        image=image,
        strength=STRENGTH if request.denoising_strength is None else request.denoising_strength,
        exact_steps=source.exact_steps,
        resize=source.resize_mode,
        noise_multiplier=source.noise_multiplier,
        extra_noise=source.extra_noise,
        color_correction=source.color_correction,
        mask=_mask(request, image, offer) if added is None else ResolvedOutpaint(**added._asdict()),
        upscale=NoUpscale() if upscale is None else _upscale(upscale.factor, offer.source_upscaler),
    )


def _upscale(factor: float, enlarger: Enlarger) -> ResolvedUpscale:
    return ResolvedUpscale(factor=factor, upscaler=enlarger.name, file=enlarger.file)


def _mask(request: Request, image: ImageRef, offer: Offer) -> NoMask | ResolvedMask:
    """Raises BadInput for a mask that is not of the image's size."""
    inpaint, refer = request.inpaint, offer.refer
    if inpaint is None:
        return NoMask()
    transparent = inpaint.mask == TRANSPARENT
    if not transparent and request.source is not None:
        _check_mask(request.source.image, inpaint.mask, offer.measure)
    return ResolvedMask(
        image=image if transparent else refer(inpaint.mask),
        transparent=transparent,
        invert=inpaint.mask_mode == "Inpaint not masked",
        blur=inpaint.mask_blur,
        content=inpaint.masked_content,
        only_masked=inpaint.inpaint_area == "Only masked",
        padding=inpaint.masked_area_padding,
        soft=_softness(inpaint),
    )


def _check_mask(image: str, mask: str, measure: Measure) -> None:
    with about("mask"):
        _check_alike(mask, measure(mask), measure(image))


def _check_alike(mask: str, own: tuple[int, int], sides: tuple[int, int]) -> None:
    if own != sides:
        name, (wide, high) = shortened(mask) if mask.startswith("data:") else mask, own
        raise BadInput(f"mask {name}: is {wide}x{high}, the image {sides[0]}x{sides[1]}: give one of the same size")


def _softness(inpaint: Inpaint) -> NoSoftness | ResolvedSoftness:
    if not inpaint.soft_inpainting:
        return NoSoftness()
    return ResolvedSoftness(
        bias=inpaint.soft_inpainting_schedule_bias,
        strength=inpaint.soft_inpainting_preservation_strength,
        boost=inpaint.soft_inpainting_transition_contrast_boost,
        influence=inpaint.soft_inpainting_mask_influence,
        threshold=inpaint.soft_inpainting_difference_threshold,
        contrast=inpaint.soft_inpainting_difference_contrast,
    )


def _channels(request: Request, beside: Beside, refer: Callable[[str], ImageRef]) -> ResolvedChannels:
    """Raises BadInput where the model needs an image or a mask that is not given."""
    source, inpaint = request.source, request.inpaint
    if request.depth is not None and beside != "depth":
        raise BadInput("depth: this model sees no depth map: choose a depth model, or leave it out")
    match beside:
        case "nothing":
            return NoChannels()
        case "mask":
            if source is not None and inpaint is None and source.outpaint is None:
                raise BadInput("this is an inpainting model: give --mask, or generate without --image")
            return MaskedChannels(weight=1.0 if inpaint is None else inpaint.conditional_mask_weight)
        case "image":
            if source is None:
                raise BadInput("this is an editing model, which changes an image: give --image")
            return ImageChannels(scale=source.image_cfg_scale)
        case "depth":
            return DepthChannels(depth=_depth(request, refer))
        case "small":
            assert source is not None
            return NoisedChannels(image=refer(source.image), level=source.noise_level)


def _depth(request: Request, refer: Callable[[str], ImageRef]) -> EstimatedDepth | GivenDepth:
    """The map that is given comes to the size as the image does. Raises BadInput."""
    source = request.source
    if source is not None and source.outpaint is not None:
        raise BadInput("this is a depth model, which cannot outpaint: choose another, or leave outpaint out")
    if request.depth is None:
        if source is None:
            raise BadInput("this is a depth model: give --depth, or --image for one whose depth is estimated")
        return EstimatedDepth()
    how = "stretch" if source is None or source.resize_mode == "latent" else source.resize_mode
    return GivenDepth(image=refer(request.depth), resize=how)


def _sizes(wanted: Sizes) -> ResolvedSizes:
    return ResolvedSizes(
        original=_said(wanted.original_size),
        top=wanted.crop_top,
        left=wanted.crop_left,
        target=_said(wanted.target_size),
        score=wanted.aesthetic_score,
    )


def _negative_sizes(wanted: Sizes) -> ResolvedSizes:
    """What is not said is as with the prompt."""
    top, left = wanted.negative_crop_top, wanted.negative_crop_left
    return ResolvedSizes(
        original=_said(wanted.negative_original_size, wanted.original_size),
        top=wanted.crop_top if top is None else top,
        left=wanted.crop_left if left is None else left,
        target=_said(wanted.negative_target_size, wanted.target_size),
        score=wanted.negative_aesthetic_score,
    )


def _said(*sizes: tuple[int, int] | None) -> AsMade | SaidSize:
    """The first size that is one; 0x0 says nothing."""
    found = next((size for size in sizes if size is not None and max(size)), None)
    return AsMade() if found is None else SaidSize(size=Size(*found))


def _regions(request: Request, offer: Offer, size: Size) -> NoRegions | ResolvedRegions:
    """size: of the first pass. Raises BadInput for a mask of another."""
    parts = tuple(
        ResolvedRegion(place=_place(region, offer, size), weight=region.weight)
        for region in map(parse_region, request.layout.regions)
    )
    layout = request.layout
    if not parts:
        return NoRegions()
    ground = USUAL_GROUND[layout.region_method] if layout.region_ground is None else layout.region_ground
    return ResolvedRegions(parts=parts, method=layout.region_method, ground=ground)


def _place(region: Region, offer: Offer, size: Size) -> BoxPlace | MaskPlace:
    if isinstance(region.place, str):
        with about("regions"):
            _check_alike(region.place, offer.measure(region.place), size)
            return MaskPlace(image=offer.refer(region.place))
    left, top, right, bottom = region.place
    return BoxPlace(left=left, top=top, right=right, bottom=bottom)


def _views(request: Request, own: RequestDefaults, whole: Size) -> NoViews | ResolvedViews:
    """An upscaling model goes over an image that is larger than its own in views, whether or not they are asked for. A
    view that is as wide as a narrow image is rounded up, so that a request can say it; it is cut to the image."""
    views = request.views
    if views is None and own.beside == "small":
        sides = min(own.width, whole.width), min(own.height, whole.height)
        size = Size(*(-(-side // own.side_step) * own.side_step for side in sides))
        return NoViews() if sides == whole else ResolvedViews(size=size, overlap=min(sides) // 4, method="mixture")
    if request.sd_upscale is not None:
        return _tiles(request, request.sd_upscale, own)
    if views is None:
        return NoViews()
    size = Size(views.width or own.width, views.height or own.height)
    for name, side in zip(("view_width", "view_height"), size, strict=True):
        check_side(name, side, own.side_step)
    overlap = min(size) // 2 if views.overlap is None else views.overlap
    if overlap >= min(size):
        raise BadInput(f"view_overlap {overlap}: must be less than the sides of a view, {size.width}x{size.height}")
    return ResolvedViews(size=size, overlap=overlap, method=views.method)


def _tiles(request: Request, upscale: SdUpscale, own: RequestDefaults) -> ResolvedViews:
    size = _size(request, own)
    overlap = min(OVERLAP, min(size) // 2) if upscale.overlap is None else upscale.overlap
    if overlap >= min(size):
        raise BadInput(
            f"sd_upscale_overlap {overlap}: must be less than the sides of a tile, {size.width}x{size.height}"
        )
    return ResolvedViews(size=size, overlap=overlap, method="mixture")


def _postprocess(request: Request, enlargers: Sequence[Enlarger]) -> NoPostprocess | ResolvedPostprocess:
    """A size comes before a factor. Raises BadInput for half a size."""
    wanted = request.postprocess
    if wanted is None or not wanted.is_asked:
        return NoPostprocess()
    size = Size(*(wanted.upscale_to or (0, 0)))
    if max(size) and not min(size):
        raise BadInput(f"postprocess_upscale_to {size.width}x{size.height}: both sides need at least 1 pixel")
    scale = ToCover(size=size) if max(size) else ByFactor(factor=wanted.upscale_by or 1.0)
    upscalers = tuple(NamedUpscaler(name=enlarger.name, file=enlarger.file) for enlarger in enlargers)
    visibility = wanted.upscaler_2_visibility if len(upscalers) > 1 else 0.0
    return ResolvedPostprocess(scale=scale, upscalers=upscalers, visibility=visibility)


def _hires(request: Request, offer: Offer, size: Size, samples: Sequence[SampleSettings]) -> NoHires | ResolvedHires:
    hires = request.hires
    if hires is None:
        return NoHires()
    method = offer.second or offer.method
    steps = hires.steps or request.steps or offer.defaults.steps
    return second_pass(
        request,
        size,
        model=offer.second_model or offer.model,
        side_step=offer.defaults.side_step,
        upscaler=offer.upscaler,
        sampling=_sampling(request.model_copy(update={"steps": steps}), method, offer.defaults),
        guidance=_guidance(request, offer.defaults),
        prompts=[_second_prompts(request, hires, sample, offer.draw) for sample in samples],
        is_listed=method.steps is not None,
    )


def _refiner(request: Request, offer: Offer) -> NoRefiner | ResolvedRefiner:
    """None where it would never take over."""
    wanted = request.refining
    if offer.refiner is None or wanted.refiner_switch_at == 1:
        return NoRefiner()
    return ResolvedRefiner(
        model=offer.refiner,
        switch_at=wanted.refiner_switch_at,
        by="calls" if wanted.refiner_by_steps else "noise",
        passes=wanted.hires_refiner,
        alike=offer.refiner_alike,
    )


def _second_prompts(request: Request, hires: Hires, sample: SampleSettings, draw: Draw) -> PassPrompts:
    """Those of the first pass where none are said; choices are drawn from the same seed."""
    texts = (hires.prompt or "", "hires prompt"), (hires.negative_prompt or "", "hires negative prompt")
    chosen = draw if request.prompting.choices else _as_it_is
    own, negative = (chosen(text, what, sample.seed) if text else "" for text, what in texts)
    return PassPrompts(prompt=own or sample.prompt, negative_prompt=negative or sample.negative_prompt)


def _seed(requested: int | None, random_: random.Random) -> int:
    return random_.randrange(DRAWN_SEEDS) if requested is None or requested == -1 else requested


def _following(first: int, count: int) -> tuple[int, ...]:
    return tuple((first + i) % ALL_SEEDS for i in range(count))
