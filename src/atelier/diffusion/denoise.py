"""From a network to a denoiser."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from atelier.diffusion.parameterization import Parameterization
from atelier.diffusion.types import Denoiser, Levels, Prediction

Net = Callable[[Tensor, Tensor], Tensor]
"""(what the network sees (B, C, h, w), time t float32 (B,)) -> output (B, C, h, w)."""


def denoiser(net: Net, parameterization: Parameterization, levels: Levels) -> Denoiser:
    """The denoiser that `net` is: scales its input, tells it the time, reads its output as a clean latent.

    The result has x's dtype, whatever precision the network computes in.
    """

    def denoise(x: Tensor, sigma: Tensor, /) -> Prediction:
        t = levels.t(sigma).to(x.device).expand(x.shape[0])
        output = net(parameterization.scale_in(x, sigma), t).to(x.dtype)
        return Prediction(parameterization.denoised(output, x, sigma))

    return denoise
