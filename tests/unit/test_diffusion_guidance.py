"""Classifier-free guidance: the formula, its neutral settings, and where it is left out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from atelier.diffusion.guidance.cfg import Guidance, cfg, level_at
from atelier.diffusion.parameterization import EPSILON, VELOCITY, Parameterization
from atelier.diffusion.types import Denoiser, Prediction
from atelier.errors import BadInput

X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
BRANCHES = torch.randn(3, *X.shape, generator=torch.Generator().manual_seed(1)) + X


def branches(*which: int) -> tuple[Denoiser, list[int]]:
    """A denoiser that answers for these of BRANCHES, one after the other, and the sizes of the batches it saw."""
    seen = list[int]()

    def denoise(x: Tensor, sigma: Tensor, /) -> Prediction:
        seen.append(len(x))
        assert torch.equal(x, torch.cat([X] * len(which)))
        return Prediction(torch.cat([BRANCHES[i] for i in which]))

    return denoise, seen


def at(sigma: float) -> Tensor:
    return torch.tensor(sigma)


def test_it_goes_beyond_the_conditional_in_one_call() -> None:
    both, seen = branches(0, 1)
    found = cfg(Guidance(7.5))(both)(X, at(1.0))
    uncond, cond = BRANCHES[0], BRANCHES[1]
    assert torch.allclose(found.clean, uncond + 7.5 * (cond - uncond), atol=1e-5)
    assert found.unguided is not None
    assert torch.equal(found.unguided, uncond)
    assert seen == [4]


def test_several_conditionals_are_weighed() -> None:
    both, _ = branches(0, 1, 2)
    found = cfg(Guidance(5.0, weights=(1.0, -0.4)))(both)(X, at(1.0)).clean
    u, a, b = BRANCHES
    assert torch.allclose(found, u + 5 * (a - u) - 2 * (b - u), atol=1e-5)


def test_scale_one_is_the_conditional_bit_for_bit() -> None:
    both, _ = branches(0, 1)
    assert torch.equal(cfg(Guidance(1.0))(both)(X, at(1.0)).clean, BRANCHES[1])
    alone, seen = branches(1)
    found = cfg(Guidance(1.0), conditional=alone)(both)(X, at(1.0))
    assert torch.equal(found.clean, BRANCHES[1])
    assert found.unguided is None
    assert seen == [2]


def test_a_sampler_that_needs_the_unguided_prediction_gets_it_at_every_scale() -> None:
    both, seen = branches(0, 1)
    alone, unasked = branches(1)
    found = cfg(Guidance(1.0), conditional=alone, unguided=True)(both)(X, at(1.0))
    assert found.unguided is not None
    assert torch.equal(found.unguided, BRANCHES[0])
    assert (seen, unasked) == ([4], [])


def test_outside_its_levels_the_unconditional_is_not_asked() -> None:
    both, asked = branches(0, 1)
    alone, saved = branches(1)
    guided = cfg(Guidance(7.0, start=10.0, end=0.5), conditional=alone)(both)
    for sigma, off in ((14.0, True), (10.0, False), (1.0, False), (0.5, False), (0.4, True)):
        assert torch.equal(guided(X, at(sigma)).clean, BRANCHES[1]) == off
    assert (len(asked), len(saved)) == (3, 2)


def test_below_its_end_every_other_call_may_be_saved() -> None:
    both, asked = branches(0, 1)
    alone, saved = branches(1)
    guided = cfg(Guidance(7.0, end=5.0, alternate=True), conditional=alone)(both)
    for sigma in (9.0, 8.0, 4.0, 3.0, 2.0, 1.0):
        guided(X, at(sigma))
    assert (len(asked), len(saved)) == (4, 2)


@pytest.mark.parametrize("output", [None, EPSILON, VELOCITY], ids=["clean", "epsilon", "velocity"])
def test_rescale_brings_back_the_contrast_of_the_conditional(output: Parameterization | None) -> None:
    both, _ = branches(0, 1)
    sigma = at(2.0)

    def seen(clean: Tensor) -> Tensor:
        return clean if output is None else output.target(clean, X, sigma)

    plain = cfg(Guidance(7.5))(both)(X, sigma).clean
    full = cfg(Guidance(7.5, rescale=1.0), rescaled_as=output)(both)(X, sigma).clean
    dims = (1, 2, 3)
    assert torch.allclose(seen(full).std(dims), seen(BRANCHES[1]).std(dims), rtol=1e-3)
    part = cfg(Guidance(7.5, rescale=0.7), rescaled_as=output)(both)(X, sigma).clean
    assert torch.allclose(seen(part), 0.7 * seen(full) + 0.3 * seen(plain), atol=1e-4)


def test_skipping_early_is_a_level() -> None:
    sigmas = torch.tensor([10.0, 8.0, 6.0, 4.0, 2.0, 0.0])
    assert level_at(sigmas, 0.0) == math.inf
    assert level_at(sigmas, 0.1) == 8.0
    assert level_at(sigmas, 0.2) == 6.0
    assert level_at(sigmas, 0.21) == 6.0


@pytest.mark.parametrize("wrong", [{"scale": math.nan}, {"weights": ()}, {"rescale": 1.5}, {"weights": (math.inf,)}])
def test_what_makes_no_sense_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Guidance(**wrong)
