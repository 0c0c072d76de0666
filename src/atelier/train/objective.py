"""The loss of a denoiser: about ten lines over a Parameterization."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from atelier.diffusion.levels import DiscreteLevels
from atelier.diffusion.parameterization import Parameterization

Net = Callable[[Tensor, Tensor], Tensor]


def loss(
    net: Net,
    parameterization: Parameterization,
    levels: DiscreteLevels,
    clean: Tensor,
    noise: Tensor,
    t: Tensor,
    snr_gamma: float,
) -> Tensor:
    """Mean squared error of the network's output at times t (int64, (B,)), min-SNR weighted: (B,).

    clean, noise: (B, C, h, w). Source: Ho 2020 (arXiv:2006.11239), eq. 14; Hang 2023 (arXiv:2303.09556), eq. 8.
    """
    sigma = levels.sigmas.to(clean.device)[t]
    x = parameterization.noised(clean, noise, sigma)
    output = net(parameterization.scale_in(x, sigma), t.float())
    error = (output.float() - parameterization.target(clean, x, sigma)).square().flatten(1).mean(1)
    return min_snr(parameterization, sigma, snr_gamma) * error


def min_snr(parameterization: Parameterization, sigma: Tensor, gamma: float) -> Tensor:
    """The weight that makes the loss min(SNR, gamma) times the error of the clean latent; sigma (B,)."""
    snr = sigma**-2
    return snr.clamp_max(gamma) / (snr + 1 if parameterization.name == "velocity" else snr)
