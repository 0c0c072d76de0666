"""The guidances beside the classifier-free one: their formulas, on numbers worked out by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from atelier.diffusion.guidance.apg import ApgOptions, apg, projected, shortened
from atelier.diffusion.guidance.branches import Branches, Guess
from atelier.diffusion.guidance.cfg import CfgOptions, cfg
from atelier.diffusion.guidance.clip import clip_guided
from atelier.diffusion.guidance.dynamic_thresholding import ThresholdOptions, dynamic_thresholding, thresholded
from atelier.diffusion.guidance.freeu import FreeuStage, free
from atelier.diffusion.guidance.image import by_image
from atelier.diffusion.guidance.interval import Interval
from atelier.diffusion.guidance.pag import pag
from atelier.diffusion.guidance.perp_neg import perp_neg, perpendicular
from atelier.diffusion.guidance.sag import SagOptions, blurred, degraded, sag
from atelier.diffusion.parameterization import EPSILON, FLOW
from atelier.diffusion.types import Denoiser, Moment, Prediction

NOW = Moment(0, 0.0)
ONE = torch.tensor(1.0)


def row(*values: float) -> Tensor:
    """One sample of one channel and one line."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def saying(value: Tensor, seen: list[Tensor] | None = None) -> Denoiser:
    def denoise(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        if seen is not None:
            seen.append(x)
        return Prediction(value)

    return denoise


def called(*parts: Tensor, weights: tuple[float, ...] = (1.0,), x: Tensor | None = None, call: int = 0) -> Branches:
    return Branches(torch.zeros_like(parts[0]) if x is None else x, ONE, Moment(call, 0.0), parts, weights)


def test_pag_goes_away_from_the_perturbed_branches_by_their_weights() -> None:
    seen: list[Tensor] = []
    worse = torch.cat([row(1, 1), row(0, 4)])
    given = called(row(2, 3), row(5, 5), weights=(1.0, -0.5), x=row(7, 8))
    found = pag(saying(worse, seen), 3.0)(given)
    assert torch.equal(found, row(3 * (1 - 2.5), 3 * (2 - 0.5)))
    assert torch.equal(seen[0], torch.cat([row(7, 8)] * 2))


def test_pag_asks_at_the_level_of_each_sample() -> None:
    """Two samples at levels of their own, for two conditional branches."""
    levels: list[Tensor] = []

    def perturbed(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        levels.append(sigma)
        return Prediction(x)

    both = torch.cat([row(0, 0), row(0, 0)])
    pag(perturbed, 1.0)(Branches(both, torch.tensor([1.0, 2.0]), NOW, (both, both), (1.0, 1.0)))
    assert levels[0].tolist() == [1, 2, 1, 2]


def test_perp_neg_takes_away_what_is_perpendicular_to_the_prompt() -> None:
    """Empty (1, 1), prompt 2 to the right of it, negative 3 to the right and 4 up: only the 4 are taken away."""
    guess = Guess(row(4, 5), row(-1, -4), 2.0, row(0, 0))
    found = perp_neg(saying(row(1, 1)), 0.5)(called(row(3, 1)), guess)
    assert torch.allclose(found.toward, row(2, -2))
    assert torch.allclose(found.clean, row(1 + 2 * 2, 1 - 2 * 2))
    assert torch.equal(found.base, row(1, 1))


def test_what_is_perpendicular_is_of_each_sample_alone() -> None:
    three = torch.cat([row(3, 4), row(3, 4), row(3, 4)])
    found = perpendicular(three, torch.cat([row(2, 0), row(0, 0), row(0, 1)]))
    assert torch.allclose(found, torch.cat([row(0, 4), row(3, 4), row(3, 0)]))


def test_apg_keeps_a_share_of_what_is_parallel() -> None:
    assert torch.allclose(projected(row(3, 4), row(0, 2), 0.25), row(3, 1))
    assert torch.allclose(shortened(row(3, 4), 10), row(3, 4))
    assert torch.allclose(shortened(row(3, 4), 2.5), row(1.5, 2))
    assert torch.equal(shortened(row(3, 4), 0), row(3, 4))


def test_apg_goes_on_from_the_prompt() -> None:
    """From (0, 2), the prediction for the prompt: base (-3, -2), direction (3, 4)."""
    guess = Guess(row(-3, -2), row(3, 4), 5.0, row(0, 0))
    found = apg(ApgOptions(eta=0, threshold=2.5))(called(row(0, 2)), guess)
    assert torch.allclose(found.clean, row(0 + 4 * 1.5, 2))


def test_apg_remembers_the_calls_before_place_by_place() -> None:
    """Two tiles a moment: each leans on its own direction of the moment before."""
    shape = apg(ApgOptions(momentum=-0.5))

    def clean(toward: Tensor, call: int) -> Tensor:
        return shape(called(row(0, 0), call=call), Guess(-toward, toward, 2.0, row(0, 0))).clean

    assert [clean(row(8, 0), 0).tolist(), clean(row(0, 8), 0).tolist()] == [row(8, 0).tolist(), row(0, 8).tolist()]
    assert torch.allclose(clean(row(2, 2), 1), row(2 - 4, 2))
    assert torch.allclose(clean(row(2, 2), 1), row(2, 2 - 4))
    assert torch.allclose(clean(row(2, 2), 2), row(2 + 1, 2 - 1))


def test_apg_is_that_of_diffusers() -> None:
    guider = pytest.importorskip("diffusers.guiders.adaptive_projected_guidance")
    draw = torch.Generator().manual_seed(0)
    base, cond = (torch.randn(2, 4, 6, 5, generator=draw) for _ in range(2))
    expected = guider.normalized_guidance(cond, base, 6.0, None, 0.3, 2.0, use_original_formulation=True)
    found = apg(ApgOptions(eta=0.3, threshold=2.0))(called(cond), Guess(base, cond - base, 6.0, cond)).clean
    # diffusers' own scale counts from the prompt where it is original: clean = c + scale * update
    assert torch.allclose(found, cond + (expected - cond) * 5 / 6, atol=1e-5)


def test_dynamic_thresholding_brings_the_range_of_a_lower_scale() -> None:
    """Mean 2, distances -4, -1, 1, 4; the mimic's widest is 2."""
    clean, mimic = row(-2, 1, 3, 6), row(10, 12, 10, 8)
    assert torch.allclose(thresholded(clean, mimic, 100), row(0, 1.5, 2.5, 4))
    assert torch.allclose(thresholded(clean, mimic, 0), row(0, 1, 3, 4)), "clamped to the mimic's range"
    assert torch.equal(thresholded(row(1, 1), mimic[..., :2], 100), row(1, 1))


def test_dynamic_thresholding_mixes_and_aims_at_the_mimic_scale() -> None:
    base, toward = row(0, 0, 0, 0), row(-1, -0.25, 0.25, 1)
    guess = Guess(base, toward, 4.0, 4 * toward)
    whole = dynamic_thresholding(ThresholdOptions(3.0))(called(toward), guess).clean
    assert torch.allclose(whole, 3 * toward)
    part = dynamic_thresholding(ThresholdOptions(3.0, share=0.25))(called(toward), guess).clean
    assert torch.allclose(part, 3.75 * toward)
    other = Guess(base, toward, 4.0, row(-4, -2, 2, 4))
    found = dynamic_thresholding(ThresholdOptions(3.0))(called(toward), other).clean
    assert torch.allclose(found, row(-3, -1.5, 1.5, 3)), "the prediction is brought into the mimic's range"


def test_channels_are_thresholded_one_by_one() -> None:
    clean = torch.cat([row(-2, 2), row(-8, 8)], dim=1)
    mimic = torch.cat([row(-1, 1), row(-2, 2)], dim=1)
    assert torch.allclose(thresholded(clean, mimic, 100), mimic)


def test_a_blur_is_a_gaussian() -> None:
    """Of a point far from the borders: e^(-1/2) of its middle one position away; nothing is lost."""
    x = torch.zeros(1, 1, 21, 21)
    x[0, 0, 10, 10] = 1
    found = blurred(x, 1.0)
    assert float(found.sum()) == pytest.approx(1)
    middle = found[0, 0, 10, 10]
    assert float(found[0, 0, 10, 11] / middle) == pytest.approx(0.60653, abs=1e-4)
    assert float(found[0, 0, 12, 10] / middle) == pytest.approx(0.13534, abs=1e-4)
    assert float(found[0, 0, 10, 15]) == 0
    flat = torch.full((1, 2, 3, 2), 0.5)
    assert torch.allclose(blurred(flat, 2.0), flat)


def test_only_what_is_attended_to_is_blurred() -> None:
    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    attended = torch.tensor([[[1.5, 0.5], [1.0, 0.2]]])
    found = degraded(x, attended, 2.0)
    assert torch.allclose(found[..., :4, :4], blurred(x, 2.0)[..., :4, :4])
    assert torch.equal(found[..., 4:, :], x[..., 4:, :])
    assert torch.equal(found[..., :4, 4:], x[..., :4, 4:])


@pytest.mark.parametrize(("parameterization", "signal"), [(EPSILON, 1.0), (FLOW, 0.75)])
def test_sag_asks_again_with_the_noise_that_there_was(parameterization: object, signal: float) -> None:
    x, clean, answer = (torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    seen: list[Tensor] = []
    everywhere = torch.full((1, 2, 2), 9.0)
    term = sag(lambda *_: (clean, everywhere), saying(answer, seen), SagOptions(0.75, 1.0), parameterization)
    found = term(Branches(x, torch.tensor(0.25), NOW, (clean,), (1.0,)))
    worse = blurred(clean, 1.0)
    assert torch.allclose(found, 0.75 * (worse - answer))
    assert torch.allclose(seen[0], x + signal * (worse - clean), atol=1e-6)


def test_freeu_amplifies_half_of_the_channels_and_filters_the_skip() -> None:
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 4, 2, 2)
    plain, skip = free(features, torch.full((1, 3, 4, 4), 2.0), FreeuStage(1.5, 0.25))
    assert torch.equal(plain[:, :2], 1.5 * features[:, :2])
    assert torch.equal(plain[:, 2:], features[:, 2:])
    assert torch.allclose(skip, torch.full((1, 3, 4, 4), 0.5)), "what is flat is of the lowest frequency"
    checks = (-1.0) ** (torch.arange(4)[:, None] + torch.arange(4)).expand(1, 1, 4, 4)
    assert torch.allclose(free(features, checks, FreeuStage(1, 0.25))[1], checks, atol=1e-6)
    adaptive, same = free(features, checks, FreeuStage(1.6, 1.0, adaptive=True))
    assert torch.allclose(adaptive[0, 0], torch.tensor([[1.0, 2 * 1.2], [3 * 1.4, 4 * 1.6]]))
    assert same is checks


def test_freeu_works_where_the_features_are() -> None:
    nowhere = torch.ones(1, 2, 4, 4, device="meta")
    assert [part.device.type for part in free(nowhere, nowhere, FreeuStage(1.5, 0.5))] == ["meta", "meta"]


def test_freeu_is_neutral_where_both_factors_are_one() -> None:
    stages = (FreeuStage(1, 1), FreeuStage(1, 0.5), FreeuStage(0.5, 1), FreeuStage(2, 2))
    assert [stage.is_neutral for stage in stages] == [True, False, False, False]


def test_guidance_by_an_image_asks_once_more_without_it() -> None:
    """Two samples at levels of their own: blank predictions 1, negative ones 3, conditional ones 7."""
    asked: list[tuple[Tensor, Tensor]] = []

    def edited(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        asked.append((x, sigma))
        return Prediction(torch.cat([row(1), row(1), row(3), row(3), row(7), row(7)]))

    x = torch.cat([row(10), row(20), row(10), row(20)])
    found = by_image(edited, 1.5, branches=2)(x, torch.tensor([5.0, 6.0, 5.0, 6.0]), NOW).clean
    assert found.flatten().tolist() == [4, 4, 8, 8]
    assert asked[0][0].flatten().tolist() == [10, 20, 10, 20, 10, 20]
    assert asked[0][1].tolist() == [5, 6, 5, 6, 5, 6]


def test_clip_guidance_climbs_where_much_is_open() -> None:
    """The score's slope is 2 everywhere; half of the variance is open at sigma 1, a tenth at a third."""
    guided = clip_guided(lambda clean, _: 2 * clean.sum((1, 2, 3)), 5.0, EPSILON)(saying(row(1, 1)))
    with torch.inference_mode():
        assert torch.allclose(guided(row(0, 0), ONE, NOW).clean, row(6, 6))
        assert torch.allclose(guided(row(0, 0), torch.tensor(1 / 3), NOW).clean, row(2, 2))


def test_guidance_acts_in_its_interval_alone() -> None:
    options = partial(CfgOptions, 7.0)
    inside = options(interval=Interval(0.5, 5.0))
    assert [
        inside.scale_at(sigma, odd=False) for sigma in (6.0, 5.0 * (1 + 1e-7), 1.0, 0.51, 0.5 * (1 + 1e-7), 0.2)
    ] == [
        *(None, 7.0, 7.0, 7.0, None, None),
    ]
    assert options().scale_at(1e6, odd=False) == options().scale_at(0.0, odd=False) == 7.0


def test_shapes_act_where_there_is_guidance_and_terms_everywhere() -> None:
    both, alone = saying(torch.cat([row(0, 0), row(1, 2)])), saying(row(1, 2))
    asked: list[Guess] = []

    def shape(given: Branches, guess: Guess) -> Guess:
        asked.append(guess)
        return Guess(guess.base, guess.toward, guess.scale, guess.clean + 1)

    def model(sigma: float) -> Tensor:
        made = cfg(
            both,
            CfgOptions(3.0, interval=Interval(0.5)),
            conditional=alone,
            shapes=(shape, shape),
            terms=(lambda given: 10 * given.parts[0],),
        )
        return made(row(0, 0), torch.tensor(sigma), NOW).clean

    assert torch.equal(model(1.0), row(3 + 2 + 10, 6 + 2 + 20))
    assert torch.equal(asked[0].toward, row(1, 2))
    assert asked[0].scale == 3.0
    assert torch.equal(model(0.1), row(11, 22))
    assert len(asked) == 2
