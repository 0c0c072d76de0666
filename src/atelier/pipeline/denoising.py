"""What is composed around a network, and the noise that a sampler takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.image_text import ImageText
from atelier.diffusion.brownian import brownian
from atelier.diffusion.denoise import denoiser
from atelier.diffusion.first_noise import Seed
from atelier.diffusion.guidance.cfg import CfgOptions, cfg, level_at
from atelier.diffusion.guidance.clip import clip_guided
from atelier.diffusion.guidance.image import by_image
from atelier.diffusion.guidance.interval import Interval
from atelier.diffusion.rng import Stream, fresh, silent
from atelier.diffusion.sampling import Options, SamplerSpec
from atelier.diffusion.scheduling import SCHEDULE_DEFAULTS, ScheduleOptions, Table
from atelier.diffusion.types import Denoiser, Levels, NoiseSource
from atelier.families.parts import UNET
from atelier.models.vae import AutoencoderKL
from atelier.pipeline.prompted import PromptedNet
from atelier.pipeline.sample import Sample
from atelier.pipeline.steering import ClipScore, shapes, steered, terms
from atelier.request.resolved import ResolvedGuidance, ResolvedNoise, ResolvedSampling, SaidSize


@dataclass(frozen=True, slots=True)
class Judge:
    """What CLIP guidance needs: the model's CLIP, and what its latents are decoded with."""

    image_text: ImageText
    vae: AutoencoderKL


def guided(
    net: PromptedNet,
    wanted: ResolvedGuidance,
    spec: SamplerSpec,
    sigmas: Tensor,
    model: Checkpoint,
    levels: Levels,
    judge: Judge | None = None,
    image_scale: float = 1.0,
) -> Denoiser:
    """The network as a denoiser under guidance, as the request and the sampler want it.

    sigmas: those that are run through, descending; judge: for CLIP guidance; image_scale: of the guidance by the image
    beside the latent.
    """
    net, parameterization = steered(net, wanted, model), model.parameterization
    denoising = partial(denoiser, parameterization=parameterization, levels=levels)
    guidance = _cfg_options(wanted, wanted.scale * spec.cfg, sigmas, net.samples[0].prompt.weights)
    both, conditional = denoising(net.both), denoising(net.conditional)
    if image_scale != 1:
        both = by_image(denoising(net.edited), image_scale, 1 + len(guidance.weights))
    made = cfg(
        both,
        guidance,
        conditional=conditional if image_scale == 1 else None,
        rescaled_as=parameterization,
        unguided=spec.unguided,
        shapes=tuple(shapes(net, wanted, denoising)),
        terms=tuple(terms(net, wanted, denoising, parameterization, model)),
    )
    if judge is None:
        return made
    score = ClipScore(net, judge.image_text, judge.vae, model.latent)
    return clip_guided(score, wanted.clip_guidance_scale, parameterization)(made)


def _cfg_options(wanted: ResolvedGuidance, scale: float, sigmas: Tensor, weights: tuple[float, ...]) -> CfgOptions:
    return CfgOptions(
        scale=scale,
        weights=weights,
        rescale=wanted.rescale,
        start=level_at(sigmas, wanted.skip_early),
        end=wanted.ngms,
        alternate=not wanted.ngms_all_steps,
        interval=Interval(wanted.cfg_interval_low, wanted.cfg_interval_high),
    )


def reads_guidance(model: Checkpoint) -> bool:
    """Whether the network was distilled to do by itself what guidance does, as strongly as it is told."""
    return model.has(UNET) and model.spec(UNET).guidance is not None


def seed_of(sample: Sample, noise: ResolvedNoise, factor: int, shape: tuple[int, int, int]) -> Seed:
    """What the first noise of a sample is made of; shape: of its latent (C, h, w); factor: pixels of one position."""
    said = noise.resized_from
    cells = (said.size.height // factor, said.size.width // factor) if isinstance(said, SaidSize) else None
    resized = None if cells == shape[1:] else cells
    return Seed(sample.seed, sample.variation_seed, noise.variation_strength, resized, noise.seed_delta)


def schedule_options(sampling: ResolvedSampling, table: Table | None) -> ScheduleOptions:
    """What the schedule reads; table: the family's columns of tabulated schedules."""
    return ScheduleOptions(
        sigma_min=sampling.sigma_min,
        sigma_max=sampling.sigma_max,
        rho=sampling.rho,
        table=table or SCHEDULE_DEFAULTS.table,
        alpha=sampling.alpha,
        beta=sampling.beta,
    )


def sampler_options(sampling: ResolvedSampling, levels: Levels) -> Options:
    """What the sampler reads."""
    return Options(
        eta=sampling.eta,
        s_churn=sampling.s_churn,
        s_tmin=sampling.s_tmin,
        s_tmax=sampling.s_tmax,
        s_noise=sampling.s_noise,
        order=sampling.order,
        variant=sampling.variant,
        lower_order_final=sampling.lower_order_final,
        levels=levels,
    )


def noise_source(
    spec: SamplerSpec, seeds: Sequence[int], drawn: tuple[Stream, ...], x: Tensor, sigmas: Tensor, source: str
) -> NoiseSource:
    """The noise that the sampler adds on its way: `drawn` goes on where the first noises ended. sigmas: the whole
    schedule, also where only its last part is run."""
    match spec.noise:
        case "fresh":
            return fresh(drawn, x)
        case "brownian":
            return brownian(seeds, x, float(sigmas[sigmas > 0].min()), float(sigmas.max()), source)
        case "none":
            return silent
