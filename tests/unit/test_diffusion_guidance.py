"""Classifier-free guidance: the formula, its neutral settings, and where it is left out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from atelier.diffusion.guidance.cfg import CfgOptions, cfg, level_at
from atelier.diffusion.parameterization import EPSILON, VELOCITY, Parameterization
from atelier.diffusion.types import Denoiser, Moment, Prediction
from atelier.errors import BadInput

X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
BRANCHES = torch.randn(3, *X.shape, generator=torch.Generator().manual_seed(1)) + X


def branches(*which: int) -> tuple[Denoiser, list[int]]:
    """A denoiser that answers for these of BRANCHES, one after the other, and the sizes of the batches it saw."""
    seen = list[int]()

    def denoise(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        assert moment is NOW[0]
        seen.append(len(x))
        assert torch.equal(x, torch.cat([X] * len(which)))
        return Prediction(torch.cat([BRANCHES[i] for i in which]))

    return denoise, seen


def at(sigma: float) -> Tensor:
    return torch.tensor(sigma)


def asked(denoise: Denoiser, sigma: float, call: int = 0) -> Prediction:
    """The prediction at X, at that level, in the sampler's call of that number."""
    NOW[0] = Moment(call, 0.5)
    return denoise(X, at(sigma), NOW[0])


NOW = [Moment(0, 0.0)]
"""The moment of the call that is being made: it arrives inside as it was given."""


def test_it_goes_beyond_the_conditional_in_one_call() -> None:
    both, seen = branches(0, 1)
    found = asked(cfg(both, CfgOptions(7.5)), 1.0)
    uncond, cond = BRANCHES[0], BRANCHES[1]
    assert torch.allclose(found.clean, uncond + 7.5 * (cond - uncond), atol=1e-5)
    assert found.unguided is not None
    assert torch.equal(found.unguided, uncond)
    assert seen == [4]


def test_several_conditionals_are_weighed() -> None:
    both, _ = branches(0, 1, 2)
    found = asked(cfg(both, CfgOptions(5.0, weights=(1.0, -0.4))), 1.0).clean
    u, a, b = BRANCHES
    assert torch.allclose(found, u + 5 * (a - u) - 2 * (b - u), atol=1e-5)


def test_scale_one_is_the_conditional_bit_for_bit() -> None:
    both, _ = branches(0, 1)
    assert torch.equal(asked(cfg(both, CfgOptions(1.0)), 1.0).clean, BRANCHES[1])
    alone, seen = branches(1)
    found = asked(cfg(both, CfgOptions(1.0), conditional=alone), 1.0)
    assert torch.equal(found.clean, BRANCHES[1])
    assert found.unguided is None
    assert seen == [2]


def test_a_sampler_that_needs_the_unguided_prediction_gets_it_at_every_scale() -> None:
    both, seen = branches(0, 1)
    alone, unasked = branches(1)
    found = asked(cfg(both, CfgOptions(1.0), conditional=alone, unguided=True), 1.0)
    assert found.unguided is not None
    assert torch.equal(found.unguided, BRANCHES[0])
    assert (seen, unasked) == ([4], [])


def test_outside_its_levels_the_unconditional_is_not_asked() -> None:
    both, full = branches(0, 1)
    alone, saved = branches(1)
    guided = cfg(both, CfgOptions(7.0, start=10.0, end=0.5), conditional=alone)
    for sigma, off in ((14.0, True), (10.0, False), (1.0, False), (0.5, False), (0.4, True)):
        assert torch.equal(asked(guided, sigma).clean, BRANCHES[1]) == off
    assert (len(full), len(saved)) == (3, 2)


@pytest.mark.parametrize(
    ("alternate", "unguided_calls"), [(True, [3, 5]), (False, [2, 3, 4, 5])], ids=["alternate", "all"]
)
def test_below_its_end_every_other_call_may_be_saved(alternate: bool, unguided_calls: list[int]) -> None:
    """The odd ones, by the sampler's own number: A1111's NGMS."""
    both, _ = branches(0, 1)
    alone, saved = branches(1)
    guided = cfg(both, CfgOptions(7.0, end=5.0, alternate=alternate), conditional=alone)
    found: list[int] = []
    for call, sigma in enumerate((9.0, 8.0, 4.0, 3.0, 2.0, 1.0)):
        before = len(saved)
        asked(guided, sigma, call)
        found += [call] * (len(saved) - before)
    assert found == unguided_calls


def test_guidance_counts_nothing_itself() -> None:
    both, full = branches(0, 1)
    alone, saved = branches(1)
    guided = cfg(both, CfgOptions(7.0, end=5.0, alternate=True), conditional=alone)
    for _ in range(4):
        asked(guided, 1.0, call=6)
    assert (len(full), len(saved)) == (4, 0)


@pytest.mark.parametrize("output", [None, EPSILON, VELOCITY], ids=["clean", "epsilon", "velocity"])
def test_rescale_brings_back_the_contrast_of_the_conditional(output: Parameterization | None) -> None:
    both, _ = branches(0, 1)
    level, sigma = 2.0, at(2.0)

    def seen(clean: Tensor) -> Tensor:
        return clean if output is None else output.target(clean, X, sigma)

    plain = asked(cfg(both, CfgOptions(7.5)), level).clean
    full = asked(cfg(both, CfgOptions(7.5, rescale=1.0), rescaled_as=output), level).clean
    dims = (1, 2, 3)
    assert torch.allclose(seen(full).std(dims), seen(BRANCHES[1]).std(dims), rtol=1e-3)
    part = asked(cfg(both, CfgOptions(7.5, rescale=0.7), rescaled_as=output), level).clean
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
        CfgOptions(**wrong)


def test_what_nobody_says_is_plain_guidance() -> None:
    usual = CfgOptions()
    assert (usual.scale, usual.weights, usual.rescale) == (7.5, (1.0,), 0.0)
    assert (usual.start, usual.end, usual.alternate) == (math.inf, 0.0, False)


def test_without_guidance_several_conditionals_still_act_with_their_weights() -> None:
    """The first stands for the unconditional, at scale 1, whether the unconditional is evaluated or not."""
    uncond, a, b = BRANCHES
    expected = a + 0.5 * (b - a)
    off = CfgOptions(7.0, weights=(1.0, 0.5), start=0.5)
    alone, _ = branches(1, 2)
    both, _ = branches(0, 1, 2)
    saved = asked(cfg(both, off, conditional=alone), 1.0)
    assert torch.allclose(saved.clean, expected, atol=1e-5)
    assert saved.unguided is None
    full = asked(cfg(both, off), 1.0)
    assert torch.allclose(full.clean, expected, atol=1e-5)
    assert full.unguided is not None
    assert torch.equal(full.unguided, uncond)


def test_a_second_conditional_of_weight_one_is_added_to_the_first() -> None:
    both, _ = branches(0, 1, 2)
    u, a, b = BRANCHES
    assert torch.allclose(
        asked(cfg(both, CfgOptions(1.0, weights=(0.5, 1.0))), 1.0).clean, u + 0.5 * (a - u) + (b - u), atol=1e-5
    )


def test_levels_of_single_images_go_to_each_of_their_branches() -> None:
    levels: list[Tensor] = []

    def denoise(x: Tensor, sigma: Tensor, _: Moment, /) -> Prediction:
        levels.append(sigma)
        return Prediction(x)

    cfg(denoise, CfgOptions(7.5, weights=(1.0, 0.5)))(X, torch.tensor([3.0, 2.0]), NOW[0])
    assert levels[0].tolist() == [3.0, 2.0, 3.0, 2.0, 3.0, 2.0]


def test_no_rescale_changes_no_bit() -> None:
    both, _ = branches(0, 1)
    plain = asked(cfg(both, CfgOptions(7.5)), 1.7).clean
    assert torch.equal(asked(cfg(both, CfgOptions(7.5), rescaled_as=VELOCITY), 1.7).clean, plain)


def test_the_contrast_of_several_conditionals_is_that_of_their_sum() -> None:
    both, _ = branches(0, 1, 2)
    u, a, b = BRANCHES
    found = asked(cfg(both, CfgOptions(7.5, weights=(1.0, 0.5), rescale=1.0)), 1.0).clean
    wanted = u + (a - u) + 0.5 * (b - u)
    for image, plain in zip(found, wanted, strict=True):
        assert float(image.std()) == pytest.approx(float(plain.std()), rel=1e-4)


def test_skipping_all_is_the_last_level() -> None:
    sigmas = torch.tensor([10.0, 8.0, 6.0, 4.0, 2.0, 0.0])
    assert [level_at(sigmas, share) for share in (0.79, 0.99, 1.0)] == [2.0, 0.0, 0.0]
