"""One pass of each kind: texts to conditioning, noise to latents, latents to pictures. Nothing here knows of events."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from atelier.diffusion.brownian import brownian
from atelier.diffusion.catalogue import resolve_sampler
from atelier.diffusion.denoise import denoiser
from atelier.diffusion.guidance.cfg import Guidance, cfg
from atelier.diffusion.rng import Stream, draw, fresh, silent, streams
from atelier.diffusion.sampling import Options, SamplerSpec
from atelier.diffusion.scheduling import ScheduleOptions, run_sigmas
from atelier.diffusion.types import Denoiser, NoiseSource, Step
from atelier.errors import NotFinite
from atelier.families.checkpoint import Checkpoint
from atelier.families.facts import LatentFormat
from atelier.models.unet import UNet
from atelier.models.vae import AutoencoderKL
from atelier.nn.ports import Conditioning
from atelier.pipeline.resources import TextEncoder
from atelier.pipeline.stages import Diffuse, Encode

UNCONDITIONAL, CONDITIONAL = 0, 1
"""Rows of the conditioning that `encode` returns."""

THUMBNAIL = 16
"""Latent positions along the longer side of what is decoded for a preview."""


def encode(stage: Encode, encoder: TextEncoder) -> Conditioning:
    """Two rows: of the negative prompt, then of the prompt."""
    return encoder([stage.negative_prompt, stage.prompt])


def diffuse(
    stage: Diffuse, unet: UNet, model: Checkpoint, conditioning: Conditioning, device: torch.device
) -> Iterator[Step]:
    """Samples the pictures of `stage` together, one step at a time; x (B, C, h, w), float32.

    Every picture has its own stream of noise, keyed by its seed. Raises NotFinite at the first step that leaves the
    finite numbers.
    """
    latent = model.latent
    spec, schedule = resolve_sampler(stage.sampler, stage.scheduler)
    sigmas = run_sigmas(schedule.make(ScheduleOptions()), model.levels, stage.steps, discard=spec.discards)
    seeds = [slot.seed for slot in stage.slots]
    drawn = streams(seeds, stage.rng)
    noise = draw(drawn, (latent.channels, stage.height // latent.factor, stage.width // latent.factor)).to(device)
    x = spec.begin(noise, float(sigmas[0]))
    denoise = _guided(unet, model, conditioning, spec, stage.cfg_scale, len(seeds))
    noises = _source(spec, seeds, drawn, x, sigmas, stage.rng)
    for step in spec.make(Options(levels=model.levels))(denoise, x, sigmas, noises):
        if not bool(step.x.isfinite().all()):
            raise NotFinite(
                f"step {step.index + 1} of {step.total}: the latent is not finite; "
                "ATELIER_DTYPE=fp32 computes in full precision"
            )
        yield step


def decode(latents: Tensor, vae: AutoencoderKL, format_: LatentFormat) -> Image.Image:
    """One picture from its latent (C, h, w)."""
    weight = next(vae.parameters())
    image = vae.decode(format_.unscaled(latents[None]).to(weight))[0].float()
    if not bool(image.isfinite().all()):
        raise NotFinite("the decoded picture is not finite; ATELIER_DTYPE=fp32 computes in full precision")
    values = ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())


def thumbnail(clean: Tensor, vae: AutoencoderKL, format_: LatentFormat) -> Image.Image:
    """A small picture of a latent (C, h, w), decoded from at most THUMBNAIL x THUMBNAIL positions of it."""
    shrink = max(1, -(-max(clean.shape[1:]) // THUMBNAIL))
    return decode(F.avg_pool2d(clean, shrink, ceil_mode=True), vae, format_)


def _guided(
    unet: UNet, model: Checkpoint, conditioning: Conditioning, spec: SamplerSpec, scale: float, pictures: int
) -> Denoiser:
    def branch(*rows: int) -> Denoiser:
        chosen = _rows(conditioning, [row for row in rows for _ in range(pictures)], unet)

        def net(x: Tensor, t: Tensor) -> Tensor:
            return unet(x.to(chosen.tokens.dtype), t, chosen)

        return denoiser(net, model.parameterization, model.levels)

    guidance = Guidance(scale=scale * spec.cfg)
    return cfg(guidance, conditional=branch(CONDITIONAL), unguided=spec.unguided)(branch(UNCONDITIONAL, CONDITIONAL))


def _rows(conditioning: Conditioning, rows: list[int], unet: UNet) -> Conditioning:
    weight = next(unet.parameters())
    pooled = conditioning.pooled
    return Conditioning(conditioning.tokens[rows].to(weight), None if pooled is None else pooled[rows].to(weight))


def _source(
    spec: SamplerSpec, seeds: list[int], drawn: tuple[Stream, ...], x: Tensor, sigmas: Tensor, rng: str
) -> NoiseSource:
    match spec.noise:
        case "fresh":
            return fresh(drawn, x)
        case "brownian":
            return brownian(seeds, x, float(sigmas[sigmas > 0].min()), float(sigmas.max()), rng)
        case "none":
            return silent
