"""Parameterizations and levels: the published numbers, and the algebra that training and sampling share."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from atelier.diffusion.denoise import denoiser, timed
from atelier.diffusion.levels import (
    DiscreteLevels,
    EdmLevels,
    FlowLevels,
    cosine,
    downcast,
    scaled_linear,
    zero_terminal,
)
from atelier.diffusion.parameterization import (
    EPSILON,
    FLOW,
    PARAMETERIZATIONS,
    VELOCITY,
    Parameterization,
    parameterization,
)
from atelier.diffusion.types import Moment, Prediction
from atelier.errors import BadInput, UnknownName


def _tensors() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 5, 6, generator=g)
    return clean, noise, torch.tensor([0.03, 0.4, 0.9])


@pytest.mark.parametrize("p", PARAMETERIZATIONS.values(), ids=PARAMETERIZATIONS)
def test_target_is_the_inverse_of_denoised(p: Parameterization) -> None:
    clean, noise, sigma = _tensors()
    x = p.noised(clean, noise, sigma)
    assert torch.allclose(p.denoised(p.target(clean, x, sigma), x, sigma), clean, atol=1e-5)
    assert torch.equal(p.denoised(noise, x, sigma)[1], p.denoised(noise[1:2], x[1:2], sigma[1])[0])


def test_targets_are_what_the_papers_say() -> None:
    clean, noise, sigma = _tensors()
    s = sigma.view(-1, 1, 1, 1)
    root = (1 + s**2).sqrt()
    assert torch.allclose(EPSILON.target(clean, EPSILON.noised(clean, noise, sigma), sigma), noise, atol=2e-5)
    velocity = noise / root - s / root * clean
    assert torch.allclose(VELOCITY.target(clean, VELOCITY.noised(clean, noise, sigma), sigma), velocity, atol=2e-5)
    assert torch.allclose(FLOW.target(clean, FLOW.noised(clean, noise, sigma), sigma), noise - clean, atol=2e-5)


def test_the_network_sees_unit_variance() -> None:
    g = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 1, 1, 300, 300, generator=g)
    for sigma in (0.1, 1.0, 14.6):
        seen = EPSILON.scale_in(EPSILON.noised(clean, noise, torch.tensor(sigma)), torch.tensor(sigma))
        assert abs(float(seen.std()) - 1) < 0.01


def test_names_resolve_and_unknown_ones_are_named() -> None:
    assert parameterization("v_prediction") is VELOCITY
    assert parameterization("epsilon") is EPSILON
    with pytest.raises(UnknownName, match="velocty"):
        parameterization("velocty")


def test_the_levels_of_stable_diffusion() -> None:
    levels = scaled_linear()
    assert levels.sigmas.shape == (1000,)
    assert levels.sigmas.dtype == torch.float32
    assert levels.sigma_min == pytest.approx(0.0291671582, rel=1e-6)
    assert levels.sigma_max == pytest.approx(14.6146412, rel=1e-6)
    t = torch.tensor([0.0, 0.5, 123.25, 998.999, 999.0])
    assert torch.allclose(levels.t(levels.sigma(t)), t, atol=2e-3)
    assert torch.allclose(levels.sigma(torch.arange(1000.0)), levels.sigmas, rtol=1e-6)
    assert levels.t(torch.tensor([1e-4, 1e4])).tolist() == [0.0, 999.0]


def test_zero_terminal_levels_end_without_signal() -> None:
    before, after = scaled_linear(), zero_terminal(scaled_linear())
    assert after.sigma_max == pytest.approx(math.sqrt(1 / 4.8973451890853435e-08 - 1), rel=1e-5)
    assert after.sigma_min == pytest.approx(before.sigma_min, rel=1e-5)


def test_downcast_levels_stay_within_half_precision() -> None:
    before, after = scaled_linear().sigmas, downcast(scaled_linear()).sigmas
    assert not torch.equal(before, after)
    assert torch.allclose(before, after, rtol=0.1)


def test_other_levels_are_ascending_and_know_their_clock() -> None:
    assert cosine().sigma_max > 100
    flow = FlowLevels(shift=3.0)
    assert float(flow.t(torch.tensor(0.5))) == 500
    assert float(flow.sigma(torch.tensor(500.0))) == pytest.approx(0.75)
    assert flow.sigmas[0].item() == pytest.approx(flow.sigma_min)
    assert flow.sigmas[-1] == 1
    edm = EdmLevels()
    assert float(edm.t(torch.tensor(1.0))) == 0
    assert edm.sigmas[[0, -1]].tolist() == pytest.approx([0.002, 80.0])


@pytest.mark.parametrize("table", [[1.0], [2.0, 1.0], [0.0, 1.0]])
def test_a_table_that_is_none_is_refused(table: list[float]) -> None:
    with pytest.raises(BadInput):
        DiscreteLevels(torch.tensor(table))


@pytest.mark.parametrize("sigma", [torch.tensor(2.0), torch.tensor([0.5, 2.0])])
def test_a_denoiser_asks_the_network_at_its_own_time_and_scale(sigma: Tensor) -> None:
    levels, now, asked = scaled_linear(), Moment(3, 0.5), list[tuple[Tensor, Tensor]]()

    def net(x: Tensor, t: Tensor, moment: Moment) -> Tensor:
        assert moment is now
        asked.append((x, t))
        return torch.ones_like(x)

    x = torch.full((2, 4, 3, 3), 5.0)
    clean = denoiser(net, EPSILON, levels)(x, sigma, now).clean
    seen, t = asked[0]
    full = sigma.expand(2)
    assert t.shape == (2,)
    assert torch.allclose(t, levels.t(full))
    assert torch.allclose(seen[:, 0, 0, 0], 5 / (1 + full**2).sqrt())
    assert torch.allclose(clean[:, 0, 0, 0], 5 - full)


def test_only_the_outermost_counts_and_only_calls() -> None:
    """Of 4 expected calls; whoever makes more is at the end."""
    moments: list[Moment] = []

    def denoise(x: Tensor, _: Tensor, moment: Moment, /) -> Prediction:
        moments.append(moment)
        return Prediction(x)

    model = timed(denoise, 4)
    for _ in range(6):
        model(torch.zeros(1, 1, 1, 1), torch.tensor(1.0))
    assert moments == [Moment(i, min(i / 4, 1.0)) for i in range(6)]
    assert [moment.progress for moment in moments] == [0, 0.25, 0.5, 0.75, 1, 1]
    timed(denoise, 0)(torch.zeros(1, 1, 1, 1), torch.tensor(1.0))
    assert moments[-1] == Moment(0, 0.0)
