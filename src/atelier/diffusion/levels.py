"""A model's levels of noise, and the way between sigma and the time t that its network was trained to read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.diffusion.types import Levels
from atelier.errors import BadInput


@dataclass(frozen=True, slots=True, eq=False)
class DiscreteLevels:
    """A table of T ascending levels, float32 (T,); t is the fractional index, log sigma linear between entries."""

    sigmas: Tensor

    def __post_init__(self) -> None:
        table = self.sigmas
        if table.ndim != 1 or len(table) < 2 or not bool(torch.all(table[1:] > table[:-1])) or float(table[0]) <= 0:
            raise BadInput("noise levels must be two or more ascending positive numbers")

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    def sigma(self, t: Tensor) -> Tensor:
        """sigma at time t in [0, T-1] (clamped), any shape -> float32, same shape."""
        log = self.sigmas.to(t.device).double().log()
        t = t.double().clamp(0, len(log) - 1)
        low = t.floor().long().clamp(max=len(log) - 2)
        return torch.lerp(log[low], log[low + 1], t - low).exp().float()

    def t(self, sigma: Tensor) -> Tensor:
        """The time of level sigma > 0 (clamped to the table), any shape -> float32, same shape."""
        log, at = self.sigmas.to(sigma.device).double().log(), sigma.double().log()
        low = (torch.searchsorted(log, at, right=True) - 1).clamp(0, len(log) - 2)
        return (low + ((at - log[low]) / (log[low + 1] - log[low])).clamp(0, 1)).float()


@dataclass(frozen=True, slots=True)
class FlowLevels:
    """The straight path of flow models: sigma in (0, 1], shifted by `shift` towards noise.

    Source: Esser et al. 2024 (arXiv:2403.03206), equation 23; SD3 uses shift 3.
    """

    shift: float = 1.0
    count: int = 1000

    @property
    def sigmas(self) -> Tensor:
        u = torch.arange(1, self.count + 1, dtype=torch.float64) / self.count
        return (self.shift * u / (1 + (self.shift - 1) * u)).float()

    @property
    def sigma_min(self) -> float:
        u = 1 / self.count
        return self.shift * u / (1 + (self.shift - 1) * u)

    @property
    def sigma_max(self) -> float:
        return 1.0

    def sigma(self, t: Tensor) -> Tensor:
        """The level at position t in [0, T] of the table: t / T, shifted."""
        u = t.double() / self.count
        return (self.shift * u / (1 + (self.shift - 1) * u)).float()

    def t(self, sigma: Tensor) -> Tensor:
        """What the network reads at level sigma in [0, 1]. Not the inverse of `sigma`: the network sees the shift."""
        return sigma.float() * self.count


@dataclass(frozen=True, slots=True)
class EdmLevels:
    """A continuous range of sigma; the network reads t = ln(sigma) / 4 (Karras et al. 2022, table 1)."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    count: int = 1000

    @property
    def sigmas(self) -> Tensor:
        low, high = math.log(self.sigma_min), math.log(self.sigma_max)
        return torch.linspace(low, high, self.count, dtype=torch.float64).exp().float()

    def sigma(self, t: Tensor) -> Tensor:
        return (t.double() * 4).exp().float()

    def t(self, sigma: Tensor) -> Tensor:
        return (sigma.double().log() / 4).float()


def scaled_linear(T: int = 1000, start: float = 0.00085, end: float = 0.012) -> DiscreteLevels:
    """Stable Diffusion's levels: the square root of beta grows linearly. sigma runs from 0.0292 to 14.6146."""
    return from_betas(torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2)


def linear(T: int = 1000, start: float = 1e-4, end: float = 2e-2) -> DiscreteLevels:
    """DDPM's levels: beta grows linearly (Ho et al. 2020)."""
    return from_betas(torch.linspace(start, end, T, dtype=torch.float64))


def cosine(T: int = 1000, offset: float = 0.008, clip: float = 0.999) -> DiscreteLevels:
    """Improved DDPM's levels (Nichol and Dhariwal 2021, equation 17), beta clipped at `clip`."""
    f = torch.cos((torch.linspace(0, 1, T + 1, dtype=torch.float64) + offset) / (1 + offset) * math.pi / 2) ** 2
    return from_betas((1 - f[1:] / f[:-1]).clamp(max=clip))


def from_betas(betas: Tensor) -> DiscreteLevels:
    """Levels of a variance-preserving chain: sigma = sqrt((1 - abar) / abar), abar = prod(1 - beta); betas (T,)."""
    return from_alphas(torch.cumprod(1 - betas.double(), 0))


def from_alphas(alphas_cumprod: Tensor) -> DiscreteLevels:
    """Levels of a table of abar (T,), descending in (0, 1)."""
    alphas = alphas_cumprod.double()
    return DiscreteLevels(((1 - alphas) / alphas).sqrt().float())


def zero_terminal(levels: DiscreteLevels) -> DiscreteLevels:
    """The table rescaled so that its last level has (all but) no signal; the first is unchanged.

    Source: Lin et al. 2023 (arXiv:2305.08891), algorithm 1; the last abar is 4.897e-8, as A1111 has it.
    """
    root = (1 + levels.sigmas.double() ** 2).rsqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    alphas = root**2
    alphas[-1] = 4.8973451890853435e-08
    return from_alphas(alphas)


def downcast(levels: DiscreteLevels) -> DiscreteLevels:
    """The table where abar was kept in half precision (A1111 up to 1.7); equal neighbours are set apart by 1e-7
    (docs/compatibility/samplers.md)."""
    alphas = (1 / (1 + levels.sigmas.double() ** 2)).half().double()
    sigmas = ((1 - alphas) / alphas).sqrt()
    return DiscreteLevels((sigmas * (1 + 1e-7 * torch.arange(len(sigmas)))).float())


def changed(levels: Levels, *, is_downcast: bool, is_zero_terminal: bool) -> Levels:
    """The table as a request wants it: downcast first, then rescaled to end without signal, as A1111 does. Levels
    without a table stay as they are."""
    if not isinstance(levels, DiscreteLevels):
        return levels
    table = downcast(levels) if is_downcast else levels
    return zero_terminal(table) if is_zero_terminal else table
