"""One pass of each kind: noise to latents, latents to pictures. Nothing here knows of events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from atelier.diffusion.brownian import brownian
from atelier.diffusion.catalogue import resolve_sampler
from atelier.diffusion.denoise import denoiser
from atelier.diffusion.first_noise import Seed, first_noises
from atelier.diffusion.guidance.cfg import Guidance, cfg, level_at
from atelier.diffusion.levels import downcast, zero_terminal
from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.rng import Stream, fresh, silent
from atelier.diffusion.sampling import MAX_ORDER, Options, SamplerSpec
from atelier.diffusion.scheduling import ScheduleOptions, run_sigmas
from atelier.diffusion.types import Denoiser, Levels, NoiseSource, Prediction, Step
from atelier.errors import NotFinite
from atelier.families.checkpoint import Checkpoint
from atelier.families.facts import LatentFormat
from atelier.models.unet import UNet
from atelier.models.vae import AutoencoderKL
from atelier.pipeline.conditioning import PromptedNet, States
from atelier.pipeline.stages import Diffuse, Sample
from atelier.request.resolved import Resolved, ResolvedNoise, ResolvedSampling

THUMBNAIL = 16
"""Latent positions along the longer side of what is decoded for a preview."""


def diffuse(stage: Diffuse, unet: UNet, model: Checkpoint, states: States, device: torch.device) -> Iterator[Step]:
    """Samples the pictures of `stage` together, one step at a time; x (B, C, h, w), float32.

    Every picture has its own stream of noise, keyed by its seed. Raises NotFinite at the first step that leaves the
    finite numbers.
    """
    resolved, latent = stage.resolved, model.latent
    sampling, noise = resolved.sampling, resolved.noise
    spec, schedule = resolve_sampler(sampling.sampler, sampling.scheduler)
    table = _levels(sampling, model)
    make = schedule.make(_schedule_options(sampling))
    sigmas = run_sigmas(make, table, sampling.steps, discard=sampling.discard_penultimate)
    shape = (latent.channels, resolved.size.height // latent.factor, resolved.size.width // latent.factor)
    first, drawn = first_noises([_seed(sample, noise, latent, shape) for sample in stage.samples], shape, noise.source)
    x = spec.begin(first.to(device), float(sigmas[0]), unit=noise.unit_start)
    guide = PromptedNet(stage.samples, states, unet)
    denoise = _guided(resolved, spec, sigmas, (model.parameterization, table), guide)
    noises = _source(spec, [sample.seed for sample in stage.samples], drawn, x, sigmas, noise.source)
    for step in spec.make(_options(sampling, table))(denoise, x, sigmas, noises):
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


def _seed(sample: Sample, noise: ResolvedNoise, latent: LatentFormat, shape: tuple[int, int, int]) -> Seed:
    width, height = noise.resized_from
    cells = height // latent.factor, width // latent.factor
    resized = None if cells == shape[1:] else cells
    return Seed(sample.seed, sample.variation_seed, noise.variation_strength, resized, noise.seed_delta)


def _levels(sampling: ResolvedSampling, model: Checkpoint) -> Levels:
    """The model's table of levels, changed as the request wants it."""
    table = downcast(model.levels) if sampling.downcast else model.levels
    return zero_terminal(table) if sampling.zero_terminal else table


def _schedule_options(sampling: ResolvedSampling) -> ScheduleOptions:
    return ScheduleOptions(
        sigma_min=sampling.sigma_min,
        sigma_max=sampling.sigma_max,
        rho=sampling.rho,
        alpha=sampling.alpha,
        beta=sampling.beta,
    )


def _options(sampling: ResolvedSampling, levels: Levels) -> Options:
    return Options(
        eta=sampling.eta,
        s_churn=sampling.s_churn,
        s_tmin=sampling.s_tmin,
        s_tmax=sampling.s_tmax,
        s_noise=sampling.s_noise,
        order=min(sampling.order, MAX_ORDER),
        variant=sampling.variant,
        lower_order_final=sampling.lower_order_final,
        levels=levels,
    )


def _guided(
    resolved: Resolved, spec: SamplerSpec, sigmas: Tensor, kind: tuple[Parameterization, Levels], guide: PromptedNet
) -> Denoiser:
    """The denoiser under guidance; each call of it is the next moment of the prompts' timelines."""
    asked, (parameterization, levels) = resolved.guidance, kind
    guidance = Guidance(
        scale=asked.scale * spec.cfg,
        weights=guide.samples[0].prompt.weights,
        rescale=asked.rescale,
        start=level_at(sigmas, asked.skip_early),
        end=asked.ngms,
        alternate=not asked.ngms_all_steps,
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
