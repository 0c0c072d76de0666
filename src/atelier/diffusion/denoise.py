"""From a network to a denoiser, and from a denoiser to what a sampler sees."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.types import Denoiser, Levels, Model, Moment, Prediction

ConditionedNet = Callable[[Tensor, Tensor, Moment], Tensor]
"""A network that knows its prompts: (what it sees (B, C, h, w), time t float32 (B,), the moment) -> output."""


def denoiser(net: ConditionedNet, parameterization: Parameterization, levels: Levels) -> Denoiser:
    """The denoiser that `net` is: scales its input, tells it the time, reads its output as a clean latent.

    The result has x's dtype, whatever precision the network computes in.
    """

    def denoise(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        t = levels.t(sigma).to(x.device).expand(x.shape[0])
        output = net(parameterization.scale_in(x, sigma), t, moment).to(x.dtype)
        return Prediction(parameterization.denoised(output, x, sigma))

    return denoise


def timed(denoise: Denoiser, calls: int) -> Model:
    """The denoiser as a sampler sees it: counts the calls, of which `calls` are expected. Nothing else counts."""
    done = 0

    def model(x: Tensor, sigma: Tensor) -> Prediction:
        nonlocal done
        moment = Moment(done, min(done / max(calls, 1), 1.0))
        done += 1
        return denoise(x, sigma, moment)

    return model
