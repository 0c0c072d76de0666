"""What a network predicts, and how that becomes a clean latent. One object serves the loss and the sampler.

Every parameterization is a line in (x, output): clean = skip(sigma) x + out(sigma) output, on a path
x = signal(sigma) clean + sigma noise, with the network looking at scale(sigma) x. So `target` is the inverse of
`denoised` by construction.

Sources: Karras et al. 2022 (arXiv:2206.00364), section 5, table 1; velocity: Salimans and Ho 2022 (arXiv:2202.00512),
appendix D; flow: Lipman et al. 2023 (arXiv:2210.02747), Esser et al. 2024 (arXiv:2403.03206).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from atelier.errors import UnknownName


class Coefficients(NamedTuple):
    """The four functions of sigma that make a parameterization, evaluated; each has sigma's shape."""

    signal: Tensor
    scale: Tensor
    skip: Tensor
    out: Tensor


@dataclass(frozen=True, slots=True)
class Parameterization:
    """What the network's output means. `sigma` is () or (B,); x, clean, noise and output are (B, ...)."""

    name: str
    coefficients: Callable[[Tensor], Coefficients]
    flow: bool = False

    def at(self, sigma: Tensor, like: Tensor) -> Coefficients:
        """The coefficients, shaped to broadcast over `like`."""
        return Coefficients(*(over(c, like) for c in self.coefficients(sigma)))

    def noised(self, clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """The point of the path at level sigma: signal clean + sigma noise."""
        return self.at(sigma, clean).signal * clean + over(sigma, clean) * noise

    def scale_in(self, x: Tensor, sigma: Tensor) -> Tensor:
        """What the network is shown in place of x."""
        return self.at(sigma, x).scale * x

    def denoised(self, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The clean latent that the network's output implies at x."""
        c = self.at(sigma, x)
        return c.skip * x + c.out * output

    def target(self, clean: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The output that implies `clean` at x: the exact inverse of `denoised`. sigma > 0."""
        c = self.at(sigma, x)
        return (clean - c.skip * x) / c.out


def over(sigma: Tensor, like: Tensor) -> Tensor:
    """sigma () or (B,) as a view that broadcasts over `like` (B, ...), in its dtype and on its device."""
    return sigma.to(like).reshape(sigma.shape + (1,) * (like.ndim - 1)) if sigma.ndim else sigma.to(like)


def parameterization(name: str) -> Parameterization:
    """By name: epsilon, velocity, clean, flow or edm, or what diffusers calls them. Raises UnknownName."""
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key not in PARAMETERIZATIONS:
        raise UnknownName("prediction type", name, PARAMETERIZATIONS)
    return PARAMETERIZATIONS[key]


def _epsilon(sigma: Tensor) -> Coefficients:
    one = torch.ones_like(sigma)
    return Coefficients(one, (1 + sigma**2).rsqrt(), one, -sigma)


def _velocity(sigma: Tensor) -> Coefficients:
    shrink = (1 + sigma**2).rsqrt()
    return Coefficients(torch.ones_like(sigma), shrink, shrink**2, -sigma * shrink)


def _clean(sigma: Tensor) -> Coefficients:
    one = torch.ones_like(sigma)
    return Coefficients(one, (1 + sigma**2).rsqrt(), torch.zeros_like(sigma), one)


def _flow(sigma: Tensor) -> Coefficients:
    one = torch.ones_like(sigma)
    return Coefficients(1 - sigma, one, one, -sigma)


def edm(sigma_data: float = 0.5) -> Parameterization:
    """The preconditioning of EDM (Karras et al. 2022, table 1) for data of standard deviation `sigma_data`."""

    def coefficients(sigma: Tensor) -> Coefficients:
        total = sigma**2 + sigma_data**2
        return Coefficients(
            torch.ones_like(sigma), total.rsqrt(), sigma_data**2 / total, sigma * sigma_data * total.rsqrt()
        )

    return Parameterization("edm", coefficients)


EPSILON = Parameterization("epsilon", _epsilon)
VELOCITY = Parameterization("velocity", _velocity)
CLEAN = Parameterization("clean", _clean)
FLOW = Parameterization("flow", _flow, flow=True)
EDM = edm()

PARAMETERIZATIONS = {p.name: p for p in (EPSILON, VELOCITY, CLEAN, FLOW, EDM)}
ALIASES = {
    "eps": "epsilon",
    "v": "velocity",
    "v_prediction": "velocity",
    "v-prediction": "velocity",
    "sample": "clean",
    "flow_prediction": "flow",
}
