"""One pass of each kind: noise to latents, latents to pictures. Nothing here knows of events."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from atelier.diffusion.brownian import brownian
from atelier.diffusion.catalogue import resolve_sampler
from atelier.diffusion.denoise import denoiser
from atelier.diffusion.guidance.cfg import Guidance, cfg, level_at
from atelier.diffusion.levels import downcast, zero_terminal
from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.rng import Stream, fresh, silent
from atelier.diffusion.sampling import MAX_ORDER, Options, SamplerSpec
from atelier.diffusion.scheduling import DEFAULTS, ScheduleOptions, run_sigmas
from atelier.diffusion.seeds import Seed, first_noises
from atelier.diffusion.types import Denoiser, Levels, NoiseSource, Prediction, Step
from atelier.errors import NotFinite
from atelier.families.checkpoint import Checkpoint
from atelier.families.facts import LatentFormat
from atelier.models.unet import UNet
from atelier.models.vae import AutoencoderKL
from atelier.pipeline.conditioning import Guide, States
from atelier.pipeline.stages import Diffuse, Sample
from atelier.request.model import Request, Resolved

THUMBNAIL = 16
"""Latent positions along the longer side of what is decoded for a preview."""


def diffuse(stage: Diffuse, unet: UNet, model: Checkpoint, states: States, device: torch.device) -> Iterator[Step]:
    """Samples the pictures of `stage` together, one step at a time; x (B, C, h, w), float32.

    Every picture has its own stream of noise, keyed by its seed. Raises NotFinite at the first step that leaves the
    finite numbers.
    """
    request, asked, latent = stage.request, stage.request.asked, model.latent
    spec, schedule = resolve_sampler(request.sampler, request.scheduler)
    said = asked.sampling.discard_penultimate_sigma
    discard = schedule.steps is None and (spec.discards if said is None else said)
    table = _levels(asked, model)
    sigmas = run_sigmas(schedule.make(_schedule_options(asked)), table, request.steps, discard=discard)
    shape = (latent.channels, request.height // latent.factor, request.width // latent.factor)
    noise, drawn = first_noises([_seed(sample, asked, latent) for sample in stage.samples], shape, asked.noise.rng)
    x = spec.begin(noise.to(device), float(sigmas[0]), unit=asked.noise.sgm_noise_multiplier)
    denoise = _guided(request, spec, sigmas, (model.parameterization, table), Guide(stage.samples, states, unet))
    noises = _source(spec, [sample.seed for sample in stage.samples], drawn, x, sigmas, asked.noise.rng)
    for step in spec.make(_options(asked, spec, table))(denoise, x, sigmas, noises):
        if not bool(step.x.isfinite().all()):
            raise _not_finite(f"step {step.index + 1} of {step.total}: the latent", next(unet.parameters()))
        yield step


def decode(latents: Tensor, vae: AutoencoderKL, format_: LatentFormat) -> Image.Image:
    """One picture from its latent (C, h, w)."""
    weight = next(vae.parameters())
    image = vae.decode(format_.unscaled(latents[None]).to(weight))[0].float()
    if not bool(image.isfinite().all()):
        raise _not_finite("the decoded picture", weight)
    values = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())


def _not_finite(what: str, weight: Tensor) -> NotFinite:
    full = weight.dtype == torch.float32
    way = "the model's weights are damaged" if full else "ATELIER_DTYPE=fp32 computes in full precision"
    return NotFinite(f"{what} is not finite; {way}")


def thumbnail(clean: Tensor, vae: AutoencoderKL, format_: LatentFormat) -> Image.Image:
    """A small picture of a latent (C, h, w), decoded from at most THUMBNAIL x THUMBNAIL positions of it."""
    shrink = max(1, -(-max(clean.shape[1:]) // THUMBNAIL))
    return decode(F.avg_pool2d(clean, shrink, ceil_mode=True), vae, format_)


def _seed(sample: Sample, asked: Request, latent: LatentFormat) -> Seed:
    """A resize of nothing, or to one side only, is none."""
    width, height = asked.noise.seed_resize or (0, 0)
    resized = (height // latent.factor, width // latent.factor) if min(width, height) >= latent.factor else None
    return Seed(sample.seed, sample.variation_seed, asked.noise.variation_strength, resized, asked.noise.ensd)


def _levels(asked: Request, model: Checkpoint) -> Levels:
    """The model's table of levels, as the request wants it."""
    table = downcast(model.levels) if asked.sampling.downcast_alphas else model.levels
    return zero_terminal(table) if asked.sampling.noise_schedule == "Zero Terminal SNR" else table


def _schedule_options(asked: Request) -> ScheduleOptions:
    shape = DEFAULTS.alpha if asked.sampling.beta_alpha is None else asked.sampling.beta_alpha
    other = DEFAULTS.beta if asked.sampling.beta_beta is None else asked.sampling.beta_beta
    return ScheduleOptions(
        sigma_min=asked.sampling.sigma_min or None,
        sigma_max=asked.sampling.sigma_max or None,
        rho=asked.sampling.rho or None,
        alpha=shape,
        beta=other,
    )


def _options(asked: Request, spec: SamplerSpec, levels: Levels) -> Options:
    return Options(
        eta=asked.sampling.eta_ddim
        if spec.name.startswith("DDIM") and asked.sampling.eta_ddim is not None
        else asked.sampling.eta,
        s_churn=asked.sampling.s_churn,
        s_tmin=asked.sampling.s_tmin,
        s_tmax=asked.sampling.s_tmax or math.inf,
        s_noise=asked.sampling.s_noise,
        order=None if asked.sampling.unipc_order is None else min(asked.sampling.unipc_order, MAX_ORDER),
        variant=asked.sampling.unipc_variant,
        lower_order_final=asked.sampling.unipc_lower_order_final is not False,
        levels=levels,
    )


def _guided(
    request: Resolved, spec: SamplerSpec, sigmas: Tensor, kind: tuple[Parameterization, Levels], guide: Guide
) -> Denoiser:
    """The denoiser under guidance; each call of it is the next moment of the prompts' timelines."""
    asked, (parameterization, levels) = request.asked, kind
    guidance = Guidance(
        scale=request.cfg_scale * spec.cfg,
        weights=guide.samples[0].prepared.weights,
        rescale=asked.guidance.cfg_rescale,
        start=level_at(sigmas, asked.guidance.skip_early_cfg),
        end=asked.guidance.ngms,
        alternate=not asked.guidance.ngms_all_steps,
    )
    both, conditional = (
        denoiser(partial(guide.net, guided=guided), parameterization, levels) for guided in (True, False)
    )
    wrap = cfg(guidance, conditional=conditional, rescaled_as=parameterization, unguided=spec.unguided)
    guided = wrap(both)

    def denoise(x: Tensor, sigma: Tensor, /) -> Prediction:
        guide.call += 1
        return guided(x, sigma)

    return denoise


def _source(
    spec: SamplerSpec, seeds: Sequence[int], drawn: tuple[Stream, ...], x: Tensor, sigmas: Tensor, rng: str
) -> NoiseSource:
    match spec.noise:
        case "fresh":
            return fresh(drawn, x)
        case "brownian":
            return brownian(seeds, x, float(sigmas[sigmas > 0].min()), float(sigmas.max()), rng)
        case "none":
            return silent
