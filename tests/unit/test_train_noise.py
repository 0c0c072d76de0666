"""The noise and the times that training draws, masked errors, and the loss on fixed noise: against what is written out
here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from atelier.diffusion.levels import scaled_linear
from atelier.diffusion.parameterization import EPSILON, FLOW, VELOCITY
from atelier.train import noise as noises
from atelier.train import objective, timesteps
from atelier.train.masks import masked
from atelier.train.objective import ClampedSnr, Debiased
from atelier.train.randomness import normal, uniform
from atelier.train.recipe import Noise, Times
from atelier.train.validation import fixed_loss

SHAPE = (2, 3, 12, 8)
pytestmark = pytest.mark.usefixtures("one_thread")


def test_plain_noise_is_normal_numbers() -> None:
    assert torch.equal(noises.drawn(SHAPE, Noise(), 5, 7), normal(SHAPE, 5, "noise", 7))
    assert noises.disturbance(SHAPE, Noise(), 5, 7) is None


def test_an_offset_is_the_same_all_over_a_channel() -> None:
    found = noises.drawn(SHAPE, Noise(offset=0.1), 5, 7) - normal(SHAPE, 5, "noise", 7)
    draw = normal((2, 3, 1, 1), 5, "offset", 7)
    assert torch.allclose(found, 0.1 * draw.expand(SHAPE), atol=1e-6)
    assert torch.equal(
        noises.offset(torch.ones(1, 1, 2, 2), torch.full((1, 1, 1, 1), 2.0), 0.5), torch.full((1, 1, 2, 2), 2.0)
    )


def test_the_layers_of_a_pyramid_shrink_to_one_position() -> None:
    assert noises.layers((64, 32), [3.0, 2.0, 3.0, 4.0, 2.5]) == [(64, 32), (32, 16), (7, 3), (1, 1)]
    assert noises.layers((64, 32), [3.0, 2.0]) == [(64, 32), (32, 16)]


def test_a_pyramid_of_noise() -> None:
    """Bilinear layers, each weaker by the discount, and unit deviation in the end."""
    fine, whole, coarse = torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 2, 4), torch.tensor([[[[1.0, 3.0]]]])
    made = noises.pyramid(fine, [whole, coarse], 0.5)
    row = torch.tensor([1 + 0.5, 1 + 0.75, 1 + 1.25, 1 + 1.5])
    expected = row.expand(1, 1, 2, 4)
    assert torch.allclose(made, expected / expected.std())
    drawn = noises.drawn(SHAPE, Noise(pyramid=3, discount=0.4), 5, 7)
    scales = [2 + 2 * float(u) for u in uniform((3,), 5, "scales", 7)]
    sides = noises.layers(SHAPE[-2:], scales)
    assert len(sides) == 3
    coarser = [normal((*SHAPE[:2], *side), 5, "layer", 7, i) for i, side in enumerate(sides)]
    assert torch.equal(drawn, noises.pyramid(normal(SHAPE, 5, "noise", 7), coarser, 0.4))
    assert float(drawn.std()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("parameterization", [EPSILON, VELOCITY, FLOW])
def test_a_perturbation_is_seen_and_not_asked_for(parameterization: Any) -> None:
    """The network reads the latent with noise n + g r, and its target is that of n."""
    clean, noise, extra = (torch.randn(SHAPE, generator=torch.Generator().manual_seed(i)) for i in range(3))
    sigma = torch.tensor([0.3, 0.8])
    seen: list[Tensor] = []

    def net(x: Tensor, _t: Tensor) -> Tensor:
        seen.append(x)
        return x

    wrapped = noises.perturbed(net, parameterization, sigma, 0.1 * extra)
    wrapped(parameterization.scale_in(parameterization.noised(clean, noise, sigma), sigma), sigma)
    both = parameterization.noised(clean, noise + 0.1 * extra, sigma)
    assert torch.allclose(seen[0], parameterization.scale_in(both, sigma), atol=1e-5)
    assert noises.perturbed(net, parameterization, sigma, None) is net
    found = noises.disturbance(SHAPE, Noise(perturbation=0.1), 5, 7)
    assert found is not None
    assert torch.equal(found, 0.1 * normal(SHAPE, 5, "perturbation", 7))


def test_times_as_they_are_spread() -> None:
    assert torch.equal(timesteps.drawn(6, Times(), 5, 7), objective.strata(6, 5, 7))
    plain = timesteps.drawn(6, Times(draw="uniform"), 5, 7)
    assert torch.equal(plain, uniform((6,), 5, "time", 7))
    ranged = timesteps.drawn(6, Times(draw="uniform", least=0.2, most=0.6), 5, 7)
    assert torch.allclose(ranged, 0.2 + 0.4 * plain)
    with pytest.raises(ValueError, match=r"times.least = 0.5 is not below times.most = 0.5"):
        Times(least=0.5, most=0.5)


def test_logit_normal_times() -> None:
    """Quantiles of the standard normal: 0.158655 is one deviation below, 0.977250 two above."""
    quantiles = torch.tensor([0.5, 0.158655, 0.977250], dtype=torch.float64)
    expected = [1 / (1 + math.exp(-z)) for z in (0.3, 0.3 - 1.5, 0.3 + 3.0)]
    assert timesteps.logit_normal(quantiles, 0.3, 1.5).tolist() == pytest.approx(expected, abs=1e-4)
    assert bool(timesteps.logit_normal(torch.tensor([0.0, 1.0]), 0.0, 1.0).isfinite().all())
    times = timesteps.drawn(20_000, Times(draw="uniform", density="logit_normal", mean=0.5, deviation=0.7), 5, 7)
    logits = torch.logit(times.double())
    assert float(logits.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(logits.std()) == pytest.approx(0.7, abs=0.02)


def test_debiased_estimation_weighs_epsilon_by_the_root_of_the_noise() -> None:
    sigma = torch.tensor([0.01**-0.5, 4**-0.5, 1000**-0.5, 4000**-0.5])
    found = objective.weight(EPSILON, Debiased(), sigma)
    assert torch.allclose(found, torch.tensor([10.0, 0.5, 0.0316228, 0.0316228]), rtol=1e-5)


def test_a_mask_weighs_squared_errors() -> None:
    error = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 0.0]]]])
    ones = torch.ones(1, 1, 2, 2)
    assert torch.equal(masked(error, ones), error)
    assert torch.equal(masked(error, 0.5 * ones), error), "how much an image weighs is not the mask's to say"
    assert masked(error, None) is error
    mask = torch.tensor([[[[1.0, 0.0], [0.5, 0.0]]]])
    weighed = masked(error, mask).square().mean()
    assert float(weighed) == pytest.approx((1 * 1 + 0.5 * 9 + 0 + 0.5 * 1) / 2 / 1.5)
    assert float(masked(error, torch.zeros(1, 1, 2, 2)).abs().max()) == 0


def test_the_loss_on_fixed_noise() -> None:
    latents = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    states = torch.arange(5.0)
    asked: list[tuple[int, int, list[int]]] = []

    def losses(rows: slice, noise: Tensor, t: Tensor) -> Tensor:
        asked.append((rows.start, rows.stop, t.tolist()))
        assert not torch.is_grad_enabled()
        return states[rows] + noise.mean((1, 2, 3)) + t

    found = fixed_loss(losses, latents, 100, batch=2)
    noise = normal((5, 1, 2, 2), "validation", "noise")
    assert found == pytest.approx(float((states + noise.mean((1, 2, 3))).mean()) + 50)
    assert asked == [(0, 2, [10, 30]), (2, 4, [50, 70]), (4, 6, [90])]


def test_the_objective_takes_what_is_drawn() -> None:
    """A network that says what it sees: with a perturbation its loss is that of a latent with more noise."""
    levels, clean = scaled_linear(), torch.zeros(2, 1, 2, 2)
    noise, extra = torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5)
    t = torch.tensor([500, 900])
    sigma = levels.sigmas[t]
    scale = sigma / (1 + sigma**2).sqrt()
    net = noises.perturbed(lambda x, _: x, EPSILON, sigma, extra)
    found = objective.loss(net, EPSILON, levels, clean, noise, t, ClampedSnr(0.0, 1e9))
    assert torch.allclose(found, (1.5 * scale - 1) ** 2, atol=1e-5)
