"""Denoising diffusion implicit models."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.sampling import Options, SamplerSpec, ancestral, intervals, level, settled
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step

OWN = Options(eta=0.0)


def ddim(options: Options = OWN) -> Sampler:
    """Song et al. 2021 (arXiv:2010.02502), equation 12, divided by the signal's scale 1 / sqrt(1 + sigma^2).

    A schedule that ends above 0 leaves a variance-preserving latent, as the original's ends at its first timestep: the
    last x is divided by sqrt(1 + sigma^2). Noise is drawn at each step, of whatever eta, as A1111 does
    (docs/compatibility/samplers.md).
    """
    eta = options.eta

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, noise: NoiseSource) -> Iterator[Step]:
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            down, up = ancestral(at.sigma, at.target, eta)
            x = clean + (x - clean) / at.sigma * down
            if at.target > 0:
                x = x + noise(level(at.sigma, x), level(at.target, x)) * (options.s_noise * up)
            x = settled(x, at)
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec(
        "DDIM",
        ddim,
        aliases=("DDIMScheduler", "DDIMParallelScheduler"),
        schedule="Timesteps",
        noise="fresh",
        uses=frozenset({"eta", "s_noise"}),
        start="unit",
        own=OWN,
    ),
)
