"""CLIP guidance: towards clean images that CLIP finds more like the prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from atelier.diffusion.guidance.spec import GuidanceSpec
from atelier.diffusion.parameterization import Parameterization, over
from atelier.diffusion.types import Combinator, Denoiser, Moment, Prediction

Score = Callable[[Tensor, Moment], Tensor]
"""(clean latents (B, C, h, w), moment) -> how like its prompt each image is, (B,), with a gradient in the latents."""


def clip_guided(score: Score, scale: float, parameterization: Parameterization) -> Combinator:
    """clean + scale * r^2 * the gradient of the score there, r^2 = n^2 / (1 + n^2) at the noise n = sigma / signal.

    Guidance on the clean prediction: He et al. 2023 (arXiv:2311.16424), algorithm 1, which leaves out the gradient of
    the denoising network. r^2 is the variance of what is not known of a clean latent of variance 1 (Song et al. 2023,
    PiGDM, section 3.1): much is changed while much is open.
    """

    def combine(denoise: Denoiser) -> Denoiser:
        def guided(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
            made = denoise(x, sigma, moment)
            slope = gradient(lambda clean: score(clean, moment), made.clean)
            noise = (over(sigma, x) / parameterization.at(sigma, x).signal) ** 2
            return replace(made, clean=made.clean + scale * noise / (1 + noise) * slope)

        return guided

    return combine


def gradient(score: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Of the sum of the scores, each of which depends on its own row alone."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        place = at.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(score(place).sum(), place)
    return found


SPECS = (
    GuidanceSpec(
        "CLIP guidance", {"clip_guidance_scale": 0.0}, {"clip_guidance_scale": 100.0}, frozenset({"image encoder"})
    ),
)
