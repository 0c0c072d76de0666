"""What a resolved request says reaches sampler, schedule and first noise under the right name."""

from __future__ import annotations

import pytest
import torch

from atelier.diffusion.first_noise import Seed
from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.rng import draw, streams
from atelier.diffusion.sampling import SamplerSpec
from atelier.diffusion.types import Sampler
from atelier.errors import BadInput
from atelier.pipeline.denoising import noise_source, sampler_options, schedule_options, seed_of
from atelier.pipeline.prepared import PreparedPrompt
from atelier.pipeline.sample import Sample
from atelier.prompt import Timeline
from atelier.request.infotext import settings
from atelier.request.resolved import SaidSize, Size
from resolved_support import PROVENANCE, RESOLVED, SAMPLING

UNUSUAL = SAMPLING.model_copy(
    update={
        "eta": 0.1,
        "s_churn": 0.2,
        "s_tmin": 0.3,
        "s_tmax": 0.4,
        "s_noise": 0.5,
        "order": 6,
        "variant": "vary_coeff",
        "lower_order_final": False,
        "sigma_min": 0.7,
        "sigma_max": 8.0,
        "rho": 9.0,
        "alpha": 10.0,
        "beta": 11.0,
    }
)
SAMPLE = Sample(
    index=0,
    seed=3,
    variation_seed=4,
    prompt=PreparedPrompt((Timeline(()),), (1.0,), Timeline(())),
    settings=settings(RESOLVED, 0, SAMPLING, PROVENANCE),
)


def test_every_option_of_a_sampler_has_its_own_value() -> None:
    levels = scaled_linear()
    found = sampler_options(UNUSUAL, levels)
    assert (found.eta, found.s_churn, found.s_tmin, found.s_tmax, found.s_noise) == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert (found.order, found.variant, found.lower_order_final) == (6, "vary_coeff", False)
    assert found.levels is levels
    assert sampler_options(UNUSUAL.model_copy(update={"order": 12}), levels).order == 12
    with pytest.raises(BadInput, match="order is 13: use 1 to 12"):
        sampler_options(UNUSUAL.model_copy(update={"order": 13}), levels)


def test_every_option_of_a_schedule_has_its_own_value() -> None:
    found = schedule_options(UNUSUAL, "sdxl")
    assert (found.sigma_min, found.sigma_max, found.rho, found.alpha, found.beta) == (0.7, 8.0, 9.0, 10.0, 11.0)


def test_the_first_noise_is_of_the_samples_seeds_and_of_the_size_it_is_kept_from() -> None:
    """Sizes in positions of the latent, height first; a size that is the image's own is none."""
    noise = RESOLVED.noise.model_copy(update={"variation_strength": 0.6, "seed_delta": 5})
    shape = (4, 96, 64)
    own = noise.model_copy(update={"resized_from": SaidSize(size=Size(512, 768))})
    assert seed_of(SAMPLE, noise, 8, shape) == seed_of(SAMPLE, own, 8, shape) == Seed(3, 4, 0.6, None, 5)
    other = noise.model_copy(update={"resized_from": SaidSize(size=Size(640, 256))})
    assert seed_of(SAMPLE, other, 8, shape) == Seed(3, 4, 0.6, (32, 80), 5)


def unused(_: object) -> Sampler:
    raise AssertionError("no sampler is made")


def test_a_sampler_has_the_noise_that_it_asks_for() -> None:
    """Fresh noise goes on where the first noises ended; a path of Brown's has other numbers."""
    x, sigmas = torch.zeros(1, 4, 8, 8), torch.tensor([10.0, 1.0, 0.0])
    sources = {
        spec.noise: noise_source(spec, [3], streams([3]), x, sigmas, "portable")
        for spec in (SamplerSpec("a", unused), SamplerSpec("b", unused, noise="fresh"), BROWNIAN)
    }
    with pytest.raises(RuntimeError, match="without noise"):
        sources["none"](sigmas[0], sigmas[1])
    made = {name: sources[name](sigmas[0], sigmas[1]) for name in ("fresh", "brownian")}
    assert torch.equal(made["fresh"], draw(streams([3]), (4, 8, 8)))
    assert made["brownian"].shape == x.shape
    assert not torch.equal(made["fresh"], made["brownian"])


BROWNIAN = SamplerSpec("c", unused, noise="brownian")
