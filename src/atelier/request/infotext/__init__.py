"""What makes an image again, as text: written for every image, read from images of every kind.

The form is A1111's, which the field's tools read. Keys and fields are one table, `keys`; `write` and `read` go
through it in opposite directions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from atelier.request.controls import (
    NO_CONTROL,
    Control,
    Face,
    Reference,
    When,
    control_text,
    face_text,
    reference_text,
)
from atelier.request.fields import Rng
from atelier.request.guidances import SWITCHED
from atelier.request.infotext.keys import Settings
from atelier.request.infotext.networks import lora_hashes, ti_hashes
from atelier.request.infotext.pairs import joined, quoted
from atelier.request.infotext.read import read
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.request import interpret, to_request, without_effect
from atelier.request.infotext.write import write
from atelier.request.model import SEVERAL, Provenance
from atelier.request.outpaint import Margins
from atelier.request.regions import Region, Shares, region_text
from atelier.request.resolve import NO_LIMIT, USUAL_GROUND
from atelier.request.resolved import (
    AllOver,
    AsMade,
    BoxPlace,
    ByFactor,
    ImageChannels,
    ImageRef,
    MaskedChannels,
    MaskPlace,
    ModelRef,
    NetworkRef,
    NoHires,
    NoisedChannels,
    NoMask,
    NoPostprocess,
    NoRegions,
    NoSoftness,
    NoSource,
    NoViews,
    RegionPrompts,
    Resolved,
    ResolvedChannels,
    ResolvedControl,
    ResolvedExample,
    ResolvedFace,
    ResolvedGuidance,
    ResolvedIdentity,
    ResolvedOutpaint,
    ResolvedPerson,
    ResolvedPostprocess,
    ResolvedReference,
    ResolvedRefiner,
    ResolvedRegion,
    ResolvedRegions,
    ResolvedSampling,
    ResolvedSoftness,
    ResolvedSource,
    ResolvedUpscale,
    SaidSize,
    Size,
)
from atelier.request.spoken import digits
from atelier.request.spoken import joined as joined_texts

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")
W = TypeVar("W", bound=When)

__all__ = [
    "Infotext",
    "Settings",
    "interpret",
    "joined",
    "pixel_hash",
    "quoted",
    "read",
    "settings",
    "to_request",
    "without_effect",
    "write",
]

HASH_DIGITS = 10
"""Of a model's SHA-256, as A1111 writes it."""
RNG_VALUES: Mapping[Rng, str] = {"portable": "portable", "cpu": "CPU", "nv": "NV"}
"""Values of the key RNG. A1111 knows CPU and NV; without the key it draws on the device that computes."""


def settings(
    resolved: Resolved,
    index: int,
    own: ResolvedSampling,
    provenance: Provenance,
    second_own: ResolvedSampling | None = None,
) -> Settings:
    """What the infotext of image `index` (0-based) says, but for the hash of its pixels.

    own: the sampling that nobody had to ask for, and second_own that of a second pass; only what differs from it is
    said. Prompts from which choices were drawn are kept as templates.
    """
    sample, guidance = resolved.samples[index], resolved.guidance
    said = _noise(_prompts(_samplings(resolved, own, second_own), resolved, index), resolved)
    said = _second(_guided(_started(said, resolved.source), guidance), resolved, index)
    said = _finished(_refined(replace(said, size=resolved.size), resolved), resolved.postprocess)
    said = _steered(said, resolved)
    return replace(
        _laid_out(_sized(_beside(said, resolved.channels), resolved), resolved, index),
        seed=sample.seed,
        variation_seed=sample.variation_seed if resolved.noise.variation_strength > 0 else None,
        cfg_scale=guidance.scale,
        cfg_rescale=guidance.rescale,
        skip_early_cfg=guidance.skip_early,
        ngms=guidance.ngms,
        ngms_all_steps=guidance.ngms_all_steps,
        batch_size=resolved.batch_size,
        vae_strips=resolved.vae_strips,
        model_hash=resolved.model.sha256[:HASH_DIGITS],
        model=resolved.model.name,
        **_parts(resolved.model),
        dtype=provenance.dtype,
        device=provenance.device,
        libraries=provenance.libraries,
        version=f"atelier-{provenance.version}",
        lora_hashes=lora_hashes(resolved.adapters, _said_prompts(resolved, index)[::2]),
        ti_hashes=ti_hashes(resolved.inversions, _said_prompts(resolved, index)),
    )


def _parts(model: ModelRef) -> dict[str, str | None]:
    """What is said of parts that are not the model's own."""
    vae = next((part for part in model.parts if part.role != "text encoder"), None)
    texts = [part.name for part in model.parts if part.role == "text encoder"]
    return {
        "vae": None if vae is None else vae.name,
        "vae_hash": None if vae is None else vae.sha256[:HASH_DIGITS],
        "text_encoders": SEVERAL.join(texts) or None,
    }


def _said_prompts(resolved: Resolved, index: int) -> tuple[str, ...]:
    """Prompts and negative prompts by turns: of the image, of its regions, of its second pass."""
    sample, hires = resolved.samples[index], resolved.hires
    second = () if isinstance(hires, NoHires) else (hires.prompts[index],)
    every = (sample, *sample.regions, *second)
    return tuple(text for own in every for text in (own.prompt, own.negative_prompt))


def _guided(settings: Settings, guidance: ResolvedGuidance) -> Settings:
    """What is said of the guidances that are on."""
    switched = {name: value for one in SWITCHED for name, value in one.said(guidance).items()}
    return replace(
        settings,
        cfg_interval_low=guidance.cfg_interval_low,
        cfg_interval_high=_unless(guidance.cfg_interval_high, NO_LIMIT),
        apg_eta=guidance.apg_eta,
        apg_norm_threshold=guidance.apg_norm_threshold,
        apg_momentum=guidance.apg_momentum,
        perp_neg_scale=guidance.perp_neg_scale,
        slg_scale=guidance.slg_scale,
        clip_guidance_scale=guidance.clip_guidance_scale,
        **switched,
    )


def _started(settings: Settings, source: NoSource | ResolvedSource) -> Settings:
    """What is said of the image that another one was made from, and of the mask."""
    if isinstance(source, NoSource):
        return settings
    started = replace(
        settings,
        denoising_strength=source.strength,
        init_image_hash=source.image.sha256[:HASH_DIGITS],
        resize_mode=source.resize,
        exact_steps=source.exact_steps,
        noise_multiplier=source.noise_multiplier,
        extra_noise=source.extra_noise,
        color_correction=source.color_correction,
    )
    if isinstance(source.upscale, ResolvedUpscale):
        upscale = source.upscale
        started = replace(started, sd_upscale_factor=upscale.factor, sd_upscale_upscaler=upscale.upscaler)
    mask = source.mask
    if isinstance(mask, NoMask):
        return started
    if isinstance(mask, ResolvedOutpaint):
        return replace(started, outpaint=str(Margins(mask.left, mask.right, mask.top, mask.bottom)))
    return replace(
        _softened(started, mask.soft),
        mask_mode="Inpaint not masked" if mask.invert else "Inpaint masked",
        mask_blur=mask.blur,
        masked_content=mask.content,
        inpaint_area="Only masked" if mask.only_masked else "Whole picture",
        masked_area_padding=mask.padding if mask.only_masked else None,
    )


def _softened(settings: Settings, soft: NoSoftness | ResolvedSoftness) -> Settings:
    """What is said of soft inpainting."""
    if isinstance(soft, NoSoftness):
        return settings
    return replace(
        settings,
        soft_inpainting=True,
        soft_inpainting_schedule_bias=soft.bias,
        soft_inpainting_preservation_strength=soft.strength,
        soft_inpainting_transition_contrast_boost=soft.boost,
        soft_inpainting_mask_influence=soft.influence,
        soft_inpainting_difference_threshold=soft.threshold,
        soft_inpainting_difference_contrast=soft.contrast,
    )


def _beside(settings: Settings, channels: ResolvedChannels) -> Settings:
    """What is said of a network that sees more than the latent."""
    return replace(
        settings,
        image_cfg_scale=channels.scale if isinstance(channels, ImageChannels) else None,
        noise_level=channels.level if isinstance(channels, NoisedChannels) else None,
        conditional_mask_weight=channels.weight if isinstance(channels, MaskedChannels) else None,
    )


def _sized(settings: Settings, resolved: Resolved) -> Settings:
    """What XL is told of the image; with the negative prompt, what is not as with the prompt."""
    own, negative = resolved.sizes, resolved.negative_sizes
    return replace(
        settings,
        original_size=_size_said(own.original),
        crop_top=own.top,
        crop_left=own.left,
        target_size=_size_said(own.target),
        negative_original_size=_unless(_size_said(negative.original), _size_said(own.original)),
        negative_crop_top=_unless(negative.top, own.top),
        negative_crop_left=_unless(negative.left, own.left),
        negative_target_size=_unless(_size_said(negative.target), _size_said(own.target)),
        aesthetic_score=own.score,
        negative_aesthetic_score=negative.score,
    )


def _size_said(size: AsMade | SaidSize) -> Size | None:
    return size.size if isinstance(size, SaidSize) else None


def _ground(regions: ResolvedRegions) -> float | None:
    """Said where it is not usual."""
    return None if regions.ground == USUAL_GROUND[regions.method] else regions.ground


def _laid_out(settings: Settings, resolved: Resolved, index: int) -> Settings:
    """What is said of regions, views and edges that meet; A1111's Tiling is both ways at once."""
    tile = f"{'x' * resolved.tiling.x}{'y' * resolved.tiling.y}"
    said = replace(settings, tiling=bool(tile), tile=tile or None)
    if not isinstance(resolved.regions, NoRegions):
        sample, regions = resolved.samples[index], resolved.regions
        texts = (
            region_text(_region(part, own, sample.negative_prompt))
            for part, own in zip(regions.parts, sample.regions, strict=True)
        )
        text = joined_texts(tuple(texts))
        said = replace(said, regions=text, region_method=regions.method, region_ground=_ground(regions))
    if isinstance(resolved.views, NoViews):
        return said
    views, source = resolved.views, resolved.source
    if isinstance(source, ResolvedSource) and isinstance(source.upscale, ResolvedUpscale):
        return replace(said, size=views.size, sd_upscale_overlap=views.overlap)
    return replace(
        said,
        view_method=views.method,
        view_width=views.size.width,
        view_height=views.size.height,
        view_overlap=views.overlap,
    )


def _steered(settings: Settings, resolved: Resolved) -> Settings:
    """What is said of the images beside the prompt; of those in data: URIs only what they hold."""
    hints = [own for own in resolved.steering if isinstance(own, ResolvedControl)]
    prompts = [own for own in resolved.steering if isinstance(own, (ResolvedReference, ResolvedExample))]
    people = [own for own in resolved.steering if isinstance(own, ResolvedFace)]
    controls = [control_text(_as_control(own)) for own in hints]
    references = [reference_text(one) for own in prompts for one in _as_references(own)]
    faces = [face_text(one) for own in people for one in _as_joined_faces(own)]
    persons = [own for own in resolved.steering if isinstance(own, ResolvedPerson)]
    faces += [face_text(face) for own in persons for face in _as_faces(own)]
    return replace(
        settings,
        controls=joined_texts(controls) or None,
        references=joined_texts(references) or None,
        faces=joined_texts(faces) or None,
    )


def _as_control(own: ResolvedControl) -> Control:
    control = Control(
        type=own.type,
        mode=own.mode,
        layers=own.layers,
        annotator=own.annotator,
        resize=own.resize,
        resolution=own.resolution,
        options=own.options,
    )
    return _by_network(_when(control, own), own)


def _as_references(own: ResolvedReference | ResolvedExample) -> Iterator[Reference]:
    """One for each image."""
    yield _as_reference(own)
    for image in own.more if isinstance(own, ResolvedReference) else ():
        yield Reference(image=_pathed(image), joined=True)


def _as_joined_faces(own: ResolvedFace) -> Iterator[Face]:
    yield _as_face(own)
    for shown in own.more:
        yield Face(image=_pathed(shown.image), joined=True, which=shown.which)


def _as_reference(own: ResolvedReference | ResolvedExample) -> Reference:
    if isinstance(own, ResolvedExample):
        return _when(Reference(method="example", fidelity=own.fidelity), own)
    return _by_network(_when(Reference(blocks=_blocks_text(own.blocks)), own), own)


def _when(said: W, own: ResolvedControl | ResolvedReference | ResolvedExample | ResolvedFace) -> W:
    """With what all that steers says."""
    when = replace(said, image=_pathed(own.image), weight=own.weight, end=own.end, passes=own.passes)
    return replace(when, start=own.start or None)


def _by_network(said: W, own: ResolvedControl | ResolvedReference | ResolvedFace) -> W:
    """The same of what a network in a file does."""
    return replace(said, model=_hashed(own.network), mask=_mask_of(own.place))


def _as_face(own: ResolvedFace) -> Face:
    identity = own.identity
    face = Face(blocks=_blocks_text(own.blocks), which=own.which, lora=own.lora, control=NO_CONTROL)
    face = _by_network(_when(face, own), own)
    if not isinstance(identity, ResolvedIdentity):
        return face
    pose = "" if identity.pose == own.image else _pathed(identity.pose)
    return replace(face, control=_hashed(identity.network), control_weight=identity.weight, pose=pose)


def _as_faces(own: ResolvedPerson) -> Iterator[Face]:
    """One for each image."""
    for shown in own.images:
        yield Face(
            image=_pathed(shown.image),
            weight=own.weight,
            start=own.start,
            model=_hashed(own.network),
            passes=own.passes,
            which=shown.which,
            lora=own.lora,
        )


def _blocks_text(blocks: Sequence[tuple[str, float]]) -> str:
    return ",".join(f"{block}={digits(factor)}" for block, factor in blocks)


def _mask_of(place: AllOver | MaskPlace) -> str:
    return _pathed(place.image) if isinstance(place, MaskPlace) else ""


def _pathed(image: ImageRef) -> str:
    """A data: URI is as long as its image: only what it holds is said."""
    return f"sha256:{image.sha256}" if image.path.startswith("data:") else image.path


def _hashed(network: NetworkRef) -> str:
    return f"{network.name} [{network.sha256[:HASH_DIGITS]}]"


def _region(part: ResolvedRegion, own: RegionPrompts, negative: str) -> Region:
    place = part.place
    is_box = isinstance(place, BoxPlace)
    where = Shares(place.left, place.top, place.right, place.bottom) if is_box else place.image.path
    return Region(where, own.prompt, _unless(own.negative_prompt, negative), part.weight)


def _second(settings: Settings, resolved: Resolved, index: int) -> Settings:
    """What is said of the second pass: what is not as in the first."""
    hires, first, sample = resolved.hires, resolved.sampling, resolved.samples[index]
    if isinstance(hires, NoHires):
        return settings
    prompts, is_alone = hires.prompts[index], isinstance(resolved.source, NoSource)
    return replace(
        settings,
        denoising_strength=hires.strength if is_alone else settings.denoising_strength,
        hires_denoising_strength=None if is_alone else hires.strength,
        hires_upscale=hires.by.factor if isinstance(hires.by, ByFactor) else None,
        hires_resize=None if isinstance(hires.by, ByFactor) else hires.size,
        hires_checkpoint=None if hires.model == resolved.model else _titled(hires.model),
        hires_steps=hires.sampling.steps,
        hires_upscaler=hires.upscaler,
        hires_sampler=_unless(hires.sampling.sampler, first.sampler),
        hires_scheduler=_unless(hires.sampling.scheduler, first.scheduler),
        hires_prompt=_unless(prompts.prompt, sample.prompt),
        hires_negative_prompt=_unless(prompts.negative_prompt, sample.negative_prompt),
        hires_cfg_scale=_unless(hires.guidance.scale, resolved.guidance.scale),
    )


def _refined(settings: Settings, resolved: Resolved) -> Settings:
    """What is said of the model that takes over."""
    refiner = resolved.refiner
    if not isinstance(refiner, ResolvedRefiner):
        return settings
    return replace(
        settings,
        refiner=_titled(refiner.model),
        refiner_switch_at=refiner.switch_at,
        refiner_by_steps=refiner.by == "calls",
        hires_refiner=None if isinstance(resolved.hires, NoHires) else refiner.passes,
    )


def _titled(model: ModelRef) -> str:
    """A model in one text, as A1111 names those beside the first."""
    return f"{model.name} [{model.sha256[:HASH_DIGITS]}]"


def _finished(settings: Settings, done: NoPostprocess | ResolvedPostprocess) -> Settings:
    """What is said of what was done to the finished image."""
    if isinstance(done, NoPostprocess):
        return settings
    first, *others = (upscaler.name for upscaler in done.upscalers)
    scale = done.scale
    return replace(
        settings,
        postprocess_upscale_by=scale.factor if isinstance(scale, ByFactor) else None,
        postprocess_upscale_to=None if isinstance(scale, ByFactor) else scale.size,
        postprocess_upscaler=first,
        postprocess_upscaler_2=others[0] if others else None,
        postprocess_upscaler_2_visibility=done.visibility if others else None,
    )


def _prompts(settings: Settings, resolved: Resolved, index: int) -> Settings:
    sample, prompting = resolved.samples[index], resolved.prompting
    return replace(
        settings,
        prompt=sample.prompt,
        negative_prompt=sample.negative_prompt,
        template=_unless(prompting.prompt, sample.prompt),
        negative_template=_unless(prompting.negative_prompt, sample.negative_prompt),
        emphasis=prompting.emphasis,
        clip_skip=prompting.clip_skip,
        old_timelines=prompting.old_timelines,
    )


def _noise(settings: Settings, resolved: Resolved) -> Settings:
    noise = resolved.noise
    return replace(
        settings,
        variation_strength=noise.variation_strength,
        seed_resize=_size_said(noise.resized_from),
        ensd=noise.seed_delta,
        rng=RNG_VALUES[noise.source],
        sgm_noise_multiplier=noise.unit_start,
    )


def _samplings(resolved: Resolved, own: ResolvedSampling, second_own: ResolvedSampling | None) -> Settings:
    """What is said of the sampler and its schedule; an option that only the second pass reads is said too."""
    said, usual = _sampling(resolved.sampling, own), _sampling(own, own)
    if isinstance(resolved.hires, NoHires):
        return said
    second = resolved.hires.sampling
    more = _sampling(second, second_own or second)
    options = more.given().keys() - {"steps", "sampler", "scheduler"}
    unsaid = [name for name in options if getattr(said, name) == getattr(usual, name)]
    return replace(said, **{name: getattr(more, name) for name in unsaid})


def _sampling(sampling: ResolvedSampling, own: ResolvedSampling) -> Settings:
    """What is said of the sampler and its schedule."""
    eta = _unless(sampling.eta, own.eta)
    return Settings(
        steps=sampling.steps,
        sampler=sampling.sampler,
        scheduler=sampling.scheduler,
        eta=None if sampling.is_ddim else eta,
        eta_ddim=eta if sampling.is_ddim else None,
        s_churn=sampling.s_churn,
        s_tmin=sampling.s_tmin,
        s_tmax=_unless(sampling.s_tmax, own.s_tmax),
        s_noise=sampling.s_noise,
        sigma_min=_unless(sampling.sigma_min, own.sigma_min),
        sigma_max=_unless(sampling.sigma_max, own.sigma_max),
        rho=_unless(sampling.rho, own.rho),
        beta_alpha=_unless(sampling.alpha, own.alpha),
        beta_beta=_unless(sampling.beta, own.beta),
        unipc_order=_unless(sampling.order, own.order),
        unipc_variant=_unless(sampling.variant, own.variant),
        unipc_lower_order_final=_unless(sampling.lower_order_final, own.lower_order_final),
        discard_penultimate_sigma=_unless(sampling.discard_penultimate, own.discard_penultimate),
        downcast_alphas=sampling.downcast,
        noise_schedule="Zero Terminal SNR" if sampling.zero_terminal else None,
    )


def _unless(value: T, usual: T) -> T | None:
    """The value where it is not the usual one."""
    return None if value == usual else value


def pixel_hash(image: Image) -> str:
    """SHA-256 (hex) of an image's size and RGB values: equal for equal pixels, whatever the file."""
    rgb = image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()
