"""What every sampler shares: its entry in the catalogue, its options, and the few formulas that recur in the papers.

Inside a sampler a level is a Python float: the arithmetic of coefficients is done in double precision and never waits
for a device. Only what the denoiser and the noise source are handed is a tensor (on the CPU, of shape ()).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.types import Levels, NoiseSource, Sampler
from atelier.errors import BadInput
from atelier.limits import UNIPC_ORDER

Variant = Literal["bh1", "bh2", "vary_coeff"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True, slots=True)
class Options:
    """The knobs of all samplers; a sampler reads those that its spec lists in `uses` and ignores the others.

    eta: share of the noise that a step renews, 0 = none.
    s_churn, s_tmin, s_tmax: noise added before a step, and between which levels (Karras et al. 2022, algorithm 2).
    s_noise: factor on all noise added on the way. order: history that a multistep solver uses, at most what it has
    weights for. variant, lower_order_final: UniPC's form, and whether its order falls towards the end.
    levels: the model's, for samplers that speak of its timesteps; None = Stable Diffusion's.
    """

    eta: float = 1.0
    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0
    order: int = 1
    levels: Levels | None = None
    variant: Variant = "bh1"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        for name in ("eta", "s_churn", "s_tmin", "s_noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadInput(f"sampler option {name} is {value}: use a number of 0 or more")
        if math.isnan(self.s_tmax):
            raise BadInput("sampler option s_tmax is not a number: leave it out for no limit")
        least, most = UNIPC_ORDER
        if not least <= self.order <= most:
            raise BadInput(f"sampler option order is {self.order}: use {least} to {most}")
        if self.variant not in VARIANTS:
            raise BadInput(f"sampler option variant is {self.variant!r}: use {', '.join(VARIANTS)}")

    @property
    def table(self) -> Levels:
        """The model's levels, or Stable Diffusion's."""
        return self.levels or scaled_linear()


SAMPLER_DEFAULTS = Options()
"""Of a sampler that names no others."""


@dataclass(frozen=True, slots=True)
class SamplerSpec:
    """A sampler's entry: its names, what it costs, what noise it takes, and how to make it.

    order: of convergence to the exact solution where no noise is added, 0 = it follows none.
    schedule: what "Automatic" means.
    noise: "fresh" = a new draw each time, "brownian" = increments of a path. calls: network calls a step, rounded.
    discards: the next-to-last sigma is left out. ensd: A1111's eta noise seed delta applies.
    start: "sigma" = noise * sigma, "unit" = noise * sqrt(1 + sigma^2), as samplers that count in timesteps begin.
    unguided: reads Prediction.unguided. cfg: factor on the CFG scale. flow: its formulas hold on a flow path as well.
    alone: the images of a batch would influence each other's steps; to be run one image at a time.
    own: its options where nobody says others.
    """

    name: str
    make: Callable[[Options], Sampler]
    aliases: tuple[str, ...] = ()
    order: int = 1
    schedule: str = "Uniform"
    noise: Literal["none", "fresh", "brownian"] = "none"
    uses: frozenset[str] = frozenset()
    calls: int = 1
    discards: bool = False
    ensd: bool = False
    start: Literal["sigma", "unit"] = "sigma"
    unguided: bool = False
    cfg: float = 1.0
    flow: bool = False
    alone: bool = False
    own: Options = SAMPLER_DEFAULTS

    def begin(self, noise: Tensor, sigma: float, *, unit: bool = False) -> Tensor:
        """The latent a sampler starts from when there is no image yet: unit noise at level `sigma`.

        unit: start every sampler as those that count in timesteps (A1111's "SGM noise multiplier"; ComfyUI does).
        """
        return noise * (math.sqrt(1 + sigma**2) if unit or self.start == "unit" else sigma)


CHURN = frozenset({"s_churn", "s_tmin", "s_tmax", "s_noise"})
ANCESTRAL = frozenset({"eta", "s_noise"})


@dataclass(frozen=True, slots=True)
class Interval:
    """Step `index` of `total`, from level `sigma` to `target`."""

    index: int
    total: int
    sigma: float
    target: float


def intervals(sigmas: Tensor) -> Iterator[Interval]:
    """The transitions of a schedule (n+1,)."""
    values = levels_of(sigmas)
    for i in range(len(values) - 1):
        yield Interval(i, len(values) - 1, values[i], values[i + 1])


def levels_of(sigmas: Tensor) -> list[float]:
    """A schedule as Python floats."""
    return cast("list[float]", sigmas.tolist())


def level(sigma: float, like: Tensor) -> Tensor:
    """A level as the tensor of shape () that denoisers and noise sources take: float32, or float64 where x is."""
    return torch.tensor(sigma, dtype=torch.float64 if like.dtype == torch.float64 else torch.float32)


def settled(x: Tensor, at: Interval) -> Tensor:
    """What a sampler that counts in timesteps leaves: after a last step that ends above 0, x in its own scale.

    Such samplers keep x / sqrt(1 + sigma^2), of variance 1, and stop at the table's first level.
    """
    return x / math.sqrt(1 + at.target**2) if at.index == at.total - 1 else x


def churned(at: Interval, x: Tensor, options: Options, noise: NoiseSource) -> tuple[Tensor, float]:
    """x raised to a higher level by fresh noise, and that level (Karras et al. 2022, algorithm 2, lines 4-6).

    With churn on, noise is drawn at every step, also outside [s_tmin, s_tmax], as k-diffusion does
    (docs/compatibility/samplers.md).
    """
    if not options.s_churn:
        return x, at.sigma
    drawn = noise(level(at.sigma, x), level(at.target, x))
    if not options.s_tmin <= at.sigma <= options.s_tmax:
        return x, at.sigma
    raised = at.sigma * (1 + min(options.s_churn / at.total, math.sqrt(2) - 1))
    return x + drawn * (options.s_noise * math.sqrt(raised**2 - at.sigma**2)), raised


def ancestral(sigma: float, target: float, eta: float) -> tuple[float, float]:
    """(down, up): go down to `down`, then add noise of standard deviation `up` to be at `target`.

    eta = 1 is the posterior of DDPM (Ho et al. 2020, equation 7), eta = 0 adds nothing (DDIM, equation 16).
    """
    up = min(target, eta * math.sqrt(max(target**2 * (sigma**2 - target**2) / sigma**2, 0.0)))
    return math.sqrt(target**2 - up**2), up
