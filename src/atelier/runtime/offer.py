"""What a model and the registries offer to a request that is being resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import lcm
from types import MappingProxyType

from atelier.adapters.port.perturbed import MIDDLE, chosen
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.image_text import has_image_text
from atelier.diffusion.catalogue import guidances, resolve_sampler, resolve_schedule, samplers
from atelier.diffusion.guidance.slg import BLOCKS
from atelier.diffusion.levels import changed
from atelier.diffusion.sampling import SamplerSpec
from atelier.diffusion.scheduling import SCHEDULE_DEFAULTS, ScheduleSpec, run_sigmas
from atelier.errors import BadInput, about
from atelier.families.parts import UNET
from atelier.families.parts.mmdit import MMDIT
from atelier.limits import CALLS
from atelier.models.clip import TextSpec
from atelier.pipeline.denoising import schedule_options
from atelier.pipeline.stages.enlarge import LATENT_MODES
from atelier.pipeline.steering import self_attentions
from atelier.prompt import Warn, checked, expand
from atelier.request.fields import SIDE_STEP
from atelier.request.groups import Hires
from atelier.request.model import Request
from atelier.request.resolve import NO_LIMIT, Beside, Draw, Method, RequestDefaults
from atelier.request.resolved import (
    DepthChannels,
    EstimatedDepth,
    InFile,
    ModelRef,
    Resolved,
    ResolvedGuidance,
    ResolvedHires,
    ResolvedRefiner,
    ResolvedRegions,
    ResolvedSampling,
    ResolvedSource,
)
from atelier.request.second_pass import Enlarger
from atelier.runtime.upscalers import UpscalerFile, UpscalerNames
from atelier.vision.depth import check_installed, estimator_in

LATENT = "Latent"
"""What enlarges where nobody says, as in A1111."""
LATENT_NAMES: Mapping[str, str] = MappingProxyType({name.casefold(): name for name in LATENT_MODES})
INSTEAD = "Lanczos"
"""What stands in for an upscaler that is not there."""

LEAST_SIDE = 8
"""Positions along a side of the map that PAG perturbs, of an image of the model's own size: as many as the middle of
Stable Diffusion 1 and 2 has."""

KINDS: Mapping[Beside, str] = MappingProxyType(
    {
        "nothing": "the latent alone",
        "mask": "image and mask beside it",
        "image": "the image beside it",
        "depth": "a depth map beside it",
        "small": "a small image beside it",
    }
)
"""What networks see, to say to a user."""
BLIND = 100.0
"""A level of noise of which Stable Diffusion's own, 14.6 at most, are far: one step is enough for all above."""
BLIND_SHARE = 0.15
SEEN = 15.0
"""The level at which Stable Diffusion's own noise ends, and tables made for it begin: the background is seen there, so
a model that goes on to pure noise decides on it above. At 42, measured, nothing is lost."""


def method_of(
    model: Checkpoint,
    sampler: str | None,
    scheduler: str | None,
    *,
    is_downcast: bool,
    is_zero_terminal: bool,
) -> Method:
    """The sampler and the schedule of these names (None: the model's, the sampler's own), with what they do on this
    model. Raises UnknownName."""
    spec, schedule = resolve_sampler(sampler or model.defaults.sampler, scheduler or model.defaults.scheduler)
    levels = changed(model.levels, is_downcast=is_downcast, is_zero_terminal=is_zero_terminal)
    own = ResolvedSampling(
        steps=schedule.steps or model.defaults.steps,
        sampler=spec.name,
        scheduler=schedule.name,
        eta=spec.own.eta,
        s_churn=spec.own.s_churn,
        s_tmin=spec.own.s_tmin,
        s_tmax=NO_LIMIT,
        s_noise=spec.own.s_noise,
        order=spec.own.order,
        variant=spec.own.variant,
        lower_order_final=spec.own.lower_order_final,
        sigma_min=levels.sigma_min,
        sigma_max=levels.sigma_max,
        rho=schedule.rho,
        alpha=SCHEDULE_DEFAULTS.alpha,
        beta=SCHEDULE_DEFAULTS.beta,
        discard_penultimate=_discards(spec, schedule),
        downcast=is_downcast,
        zero_terminal=is_zero_terminal,
    )
    return Method(own, spec.uses | schedule.uses, schedule.steps)


def requested_method(model: Checkpoint, request: Request) -> Method:
    """What a request names. Raises UnknownName."""
    return method_of(
        model,
        request.sampler,
        request.scheduler,
        is_downcast=request.sampling.downcast_alphas,
        is_zero_terminal=request.sampling.noise_schedule == "Zero Terminal SNR",
    )


def second_method(model: Checkpoint, request: Request) -> Method:
    """What a request names for its second pass: what it leaves open is as in the first. Raises UnknownName."""
    hires = request.hires or Hires()
    sampler, scheduler = (other_than_first(name) for name in (hires.sampler, hires.scheduler))
    return method_of(
        model,
        sampler or request.sampler,
        scheduler or request.scheduler,
        is_downcast=request.sampling.downcast_alphas,
        is_zero_terminal=request.sampling.noise_schedule == "Zero Terminal SNR",
    )


def other_than_first(name: str | None) -> str | None:
    """What is said of the second pass, in A1111's words: "Use same sampler" says nothing."""
    return None if name is None or name.casefold().startswith("use same ") else name


Refer = Callable[[UpscalerFile], ModelRef]
"""Fixes what lies in the file of an upscaler."""


def upscaler_of(request: Request, known: UpscalerNames, refer: Refer, warn: Warn) -> Enlarger:
    """What enlarges for the second pass.

    Raises BadInput for what is not there, and BadFile for a file that is no upscaler; where the request is lenient it
    is another.
    """
    wanted = "" if request.hires is None or not request.hires.is_asked else request.hires.upscaler or ""
    name = (wanted or LATENT).strip()
    if name.casefold() in LATENT_NAMES:
        return Enlarger(LATENT_NAMES[name.casefold()])
    with about("hires_upscaler"):
        return _found(known, refer, name) or _instead(
            request, f"hires_upscaler {wanted!r}", (*LATENT_MODES, *known.names()), known.place(name), warn
        )


def source_upscaler_of(request: Request, known: UpscalerNames, refer: Refer, warn: Warn) -> Enlarger:
    """What enlarges the image to start from. Raises as `upscaler_of` does."""
    name = INSTEAD if request.sd_upscale is None else request.sd_upscale.upscaler.strip()
    with about("sd_upscale_upscaler"):
        return _found(known, refer, name) or _instead(
            request, f"sd_upscale_upscaler {name!r}", known.names(), known.place(name), warn
        )


def finishers_of(request: Request, known: UpscalerNames, refer: Refer, warn: Warn) -> tuple[Enlarger, ...]:
    """What enlarges finished images: none, one, or two to blend. Raises as `upscaler_of` does."""
    wanted = request.postprocess
    if wanted is None or not wanted.is_asked:
        return ()
    named = {"postprocess_upscaler": wanted.upscaler, "postprocess_upscaler_2": wanted.other}
    there = {what: name.strip() for what, name in named.items() if name is not None}
    return tuple(_finisher(request, known, refer, what, name, warn) for what, name in there.items())


def _finisher(request: Request, known: UpscalerNames, refer: Refer, what: str, name: str, warn: Warn) -> Enlarger:
    with about(what):
        return _found(known, refer, name) or _instead(
            request, f"{what} {name!r}", known.names(), known.place(name), warn
        )


def _found(known: UpscalerNames, refer: Refer, name: str) -> Enlarger | None:
    found = known.find(name)
    if isinstance(found, UpscalerFile):
        return Enlarger(found.name, InFile(file=refer(found)))
    return None if found is None else Enlarger(found.name)


def _instead(request: Request, wanted: str, names: Sequence[str], place: str, warn: Warn) -> Enlarger:
    """What stands in for an upscaler that is not there. Raises BadInput where the request is not lenient."""
    if not request.prompting.lenient:
        raise BadInput(
            f"{wanted} is not there: choose one of {', '.join(names)}; or {place}; or --lenient takes {INSTEAD}"
        )
    warn(f"{wanted} is not there: enlarged with {INSTEAD}")
    return Enlarger(INSTEAD)


def check_second(resolved: Resolved, first: Checkpoint, second: Checkpoint) -> None:
    """Raises BadInput for a model that cannot go on from what the first one made."""
    hires = resolved.hires
    if not isinstance(hires, ResolvedHires) or hires.model == resolved.model:
        return
    told, latent = f"hires_checkpoint {hires.model.name}", second.latent
    if _beside(first) != _beside(second):
        raise BadInput(f"{told}: sees {KINDS[_beside(second)]}, {first.name} {KINDS[_beside(first)]}: choose another")
    if hires.upscaler in LATENT_MODES and first.latent != latent:
        raise BadInput(
            f"{told}: its latents are others than those of {first.name}: choose an hires_upscaler of images ({INSTEAD})"
        )
    if hires.size.width % latent.factor or hires.size.height % latent.factor:
        size = f"{hires.size.width}x{hires.size.height}"
        raise BadInput(f"{told}: makes sizes in steps of {latent.factor}, {size} is none: choose another model or size")
    check_clip_skip(resolved, second)
    check_regions(resolved, second)


def check_refiner(resolved: Resolved, refiner: Checkpoint, first: Checkpoint, second: Checkpoint) -> None:
    """Raises BadInput for a model that cannot take the latents of the passes in which it acts over."""
    wanted = resolved.refiner
    if not isinstance(wanted, ResolvedRefiner):
        return
    told, passes = f"refiner {wanted.model.name}", [(first, resolved.guidance)]
    if isinstance(resolved.hires, ResolvedHires):
        later = (second, resolved.hires.guidance)
        passes = {"first pass": passes, "second pass": [later], "both passes": [*passes, later]}[wanted.passes]
    for model, guidance in passes:
        if refiner.latent != model.latent or refiner.parameterization.flow != model.parameterization.flow:
            raise BadInput(f"{told}: its latents are others than those of {model.name}: choose another")
        if _beside(refiner) not in {"nothing", _beside(model)}:
            seen = KINDS[_beside(refiner)], KINDS[_beside(model)]
            raise BadInput(f"{told}: sees {seen[0]}, {model.name} {seen[1]}: choose another")
        check_guidance(guidance, refiner)
    check_clip_skip(resolved, refiner)
    check_regions(resolved, refiner)


def check_steps(resolved: Resolved) -> None:
    """Raises BadInput where steps that are all taken would be the last ones of a longer schedule than any can be."""
    source, hires = resolved.source, resolved.hires
    if isinstance(source, ResolvedSource) and source.exact_steps:
        _check_length("from an image", resolved.sampling.steps, source.strength)
    if isinstance(hires, ResolvedHires) and hires.exact_steps:
        _check_length("second pass", hires.sampling.steps, hires.strength)


def _check_length(what: str, steps: int, strength: float) -> None:
    most = CALLS[1]
    if strength > 0 and steps / strength > most:
        raise BadInput(
            f"{what}: {steps} steps at a strength of {strength:g} are the last of more than {most:,}: use fewer steps, "
            "or more strength (0 for none)"
        )


def own_sampling(model: Checkpoint, sampling: ResolvedSampling) -> ResolvedSampling:
    """What the sampler and the schedule of `sampling` do on this model where nobody asks for anything else."""
    return method_of(
        model,
        sampling.sampler,
        sampling.scheduler,
        is_downcast=sampling.downcast,
        is_zero_terminal=sampling.zero_terminal,
    ).own


def check_clip_skip(resolved: Resolved, model: Checkpoint) -> None:
    """Raises BadInput for a clip skip that a text encoder of the model does not have."""
    skip = resolved.prompting.clip_skip
    for tower in model.towers:
        spec = model.spec(tower.part)
        if not isinstance(spec, TextSpec):
            continue
        layers = spec.layers + tower.cut_off(spec)
        if skip > layers:
            raise BadInput(f"clip skip {skip}: this model's text encoder has {layers} layers, choose 1 to {layers}")


def defaults_of(model: Checkpoint) -> RequestDefaults:
    """What a request that leaves it open has with this model."""
    own, factor = model.defaults, model.latent.factor
    return RequestDefaults(
        steps=own.steps,
        cfg_scale=own.cfg_scale,
        width=own.width,
        height=own.height,
        side_step=lcm(SIDE_STEP, factor),
        latent_step=factor,
        beside=_beside(model),
        pag_layers=_perturbed(model),
    )


def _perturbed(model: Checkpoint) -> str:
    """What PAG perturbs: the middle, as its authors do, but where the map there has next to no positions the innermost
    attention on the way down that has some."""
    if not model.has(UNET):
        return MIDDLE
    unet, own = model.spec(UNET), model.defaults
    side = min(own.width, own.height) // model.latent.factor
    if side >> (len(unet.widths) - 1) >= LEAST_SIDE:
        return MIDDLE
    levels = [level for level, depth in enumerate(unet.depth) if depth and side >> level >= LEAST_SIDE]
    return f"down.{levels[-1]}" if levels else MIDDLE


def _beside(model: Checkpoint) -> Beside:
    """What the model's network sees beside the latent, by its channels. Raises BadInput where that is not known."""
    expected, latent = model.ends.in_channels, model.latent.channels
    if model.family.augmented is not None:
        return "small"
    kinds: Mapping[int, Beside] = {
        latent: "nothing",
        latent + 1: "depth",
        2 * latent: "image",
        2 * latent + 1: "mask",
    }
    if expected not in kinds:
        raise BadInput(
            f"{model.path}: expects {expected} channels where a latent has {latent}: known are {latent}, "
            f"{latent + 1} (a depth model), {2 * latent} (an editing model) and {2 * latent + 1} (an inpainting "
            "model); choose another model"
        )
    return kinds[expected]


def drawing(wildcards: Callable[[], Mapping[str, Sequence[str]]], warn: Warn) -> Draw:
    """Makes the choices of prompts; wildcards are read only for a prompt that may name one."""

    read, none = cache(wildcards), dict[str, Sequence[str]]()

    def draw(text: str, what: str, seed: int) -> str:
        files = read() if "__" in text else none
        return checked(expand(checked(text, what), seed, files, warn), what)

    return draw


def check_suits(resolved: Resolved, model: Checkpoint, second: Checkpoint | None = None) -> None:
    """Raises BadInput for what this kind of model cannot be sampled with. second: that of a second pass, if another."""
    check_sampling(resolved.sampling, model)
    check_guidance(resolved.guidance, model)
    check_regions(resolved, model)
    check_depth(resolved, model)
    if (resolved.tiling.x or resolved.tiling.y) and not model.has(UNET):
        raise BadInput(f"tile needs a U-Net, which {model.name} has not: leave it out")
    if isinstance(resolved.hires, ResolvedHires):
        check_sampling(resolved.hires.sampling, second or model)
        check_guidance(resolved.hires.guidance, second or model)


def check_depth(resolved: Resolved, model: Checkpoint) -> None:
    """Raises BadInput where depths are to be estimated and nothing can."""
    channels = resolved.channels
    if not isinstance(channels, DepthChannels) or not isinstance(channels.depth, EstimatedDepth):
        return
    if estimator_in(model.path) is None:
        raise BadInput(f"{model.name} is a depth model without an estimator of depths in its folder: give --depth")
    check_installed()


def check_sampling(sampling: ResolvedSampling, model: Checkpoint) -> None:
    """The same for one pass."""
    flow, title = model.parameterization.flow, model.family.title
    if flow and not samplers()[sampling.sampler].flow:
        able = ", ".join(name for name, spec in samplers().items() if spec.flow)
        raise BadInput(
            f"the sampler {sampling.sampler} cannot sample flow models such as {title}: choose one of {able}"
        )
    if model.family.table is None and "table" in resolve_schedule(sampling.scheduler).uses:
        raise BadInput(f"the schedule {sampling.scheduler} has no levels for {title}: choose another")
    if flow and (sampling.downcast or sampling.zero_terminal):
        raise BadInput(f"{title} has no table of noise levels: leave out downcast_alphas and noise_schedule")


def check_regions(resolved: Resolved, model: Checkpoint) -> None:
    """Raises BadInput where attention is to be divided in a network that is no U-Net."""
    regions = resolved.regions
    if isinstance(regions, ResolvedRegions) and regions.method == "attention" and not model.has(UNET):
        raise BadInput(f"region_method attention needs a U-Net, which {model.name} has not: use latent")


def check_guidance(guidance: ResolvedGuidance, model: Checkpoint) -> None:
    """Raises BadInput for a guidance that needs what the model does not have."""
    has = {"U-Net": model.has(UNET), "image encoder": has_image_text(model), "transformer": _is_deep(model)}
    settings = guidance.model_dump()
    for name, spec in guidances().items():
        missing = [part for part in sorted(spec.needs) if not has[part]]
        if missing and spec.is_on(settings):
            used = ", ".join(setting for setting, value in spec.neutral.items() if settings[setting] != value)
            article = "an" if missing[0].startswith("i") else "a"
            raise BadInput(f"{name} needs {article} {missing[0]}, which {model.name} has not: leave out {used}")
    if guidance.pag_scale:
        chosen(self_attentions(model), guidance.pag_layers)


def _is_deep(model: Checkpoint) -> bool:
    """Whether the model's network is a transformer that has the blocks which skip-layer guidance leaves out."""
    return model.has(MMDIT) and model.spec(MMDIT).depth > BLOCKS[-1]


def check_schedule(resolved: Resolved, model: Checkpoint, warn: Warn) -> None:
    """Tells of a schedule that does not suit a model whose last level is nothing but noise: that spends its steps where
    the model sees no image, or begins where it sees one already, of which pure noise has nothing."""
    sampling = resolved.sampling
    levels = changed(model.levels, is_downcast=sampling.downcast, is_zero_terminal=sampling.zero_terminal)
    if model.parameterization.flow or levels.sigma_max < BLIND:
        return
    make = resolve_schedule(sampling.scheduler).make(schedule_options(sampling, model.family.table))
    sigmas = run_sigmas(make, levels, sampling.steps)
    blind = int((sigmas[1:] > BLIND).sum())
    if blind > BLIND_SHARE * sampling.steps:
        warn(
            f"{sampling.scheduler}: {blind} of {sampling.steps} steps are at levels where nothing of an image is left; "
            "with this model Uniform spends them better"
        )
    elif float(sigmas[0]) < SEEN and _begins_in_noise(resolved):
        warn(
            f"{sampling.scheduler}: begins at level {float(sigmas[0]):.3g}, where the background is seen already; with "
            "this model Uniform begins above it"
        )


def _begins_in_noise(resolved: Resolved) -> bool:
    return not isinstance(resolved.source, ResolvedSource) or resolved.source.strength >= 1


def _discards(spec: SamplerSpec, schedule: ScheduleSpec) -> bool:
    """A list of sigmas given by hand is used as it is."""
    return schedule.steps is None and spec.discards
