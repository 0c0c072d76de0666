"""The first noise of an image: variation, resize and what is drawn afterwards, against A1111's rules spelled out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atelier.diffusion.first_noise import Seed, first_noise, first_noises, pasted, slerp
from atelier.diffusion.rng import SOURCES, stream
from atelier.errors import BadInput

SHAPE = (4, 8, 6)


@pytest.mark.parametrize("source", SOURCES)
def test_a_plain_seed_is_the_first_draw_and_the_stream_goes_on(source: str) -> None:
    noise, after = first_noise(Seed(42), SHAPE, source)
    alone = stream(42, source)
    assert torch.equal(noise, alone.normal(SHAPE))
    assert torch.equal(after.normal(SHAPE), alone.normal(SHAPE))


def test_a_delta_starts_a_new_stream_after_the_first_noise() -> None:
    noise, after = first_noise(Seed(42, delta=31337), SHAPE)
    assert torch.equal(noise, stream(42).normal(SHAPE))
    assert torch.equal(after.normal(SHAPE), stream(42 + 31337).normal(SHAPE))


def reference_slerp(val: float, low: Tensor, high: Tensor) -> Tensor:
    """A1111: normalised along dim 1 of C x H x W."""
    low_norm, high_norm = low / torch.norm(low, dim=1, keepdim=True), high / torch.norm(high, dim=1, keepdim=True)
    omega = torch.acos((low_norm * high_norm).sum(1))
    shares = torch.sin((1.0 - val) * omega) / torch.sin(omega), torch.sin(val * omega) / torch.sin(omega)
    return shares[0].unsqueeze(1) * low + shares[1].unsqueeze(1) * high


@pytest.mark.parametrize("strength", [0.05, 0.5, 0.9])
def test_variation_goes_along_the_sphere_column_by_column(strength: float) -> None:
    noise, after = first_noise(Seed(1, subseed=2, strength=strength), SHAPE, "cpu")
    one, two = stream(1, "cpu"), stream(2, "cpu").normal(SHAPE)
    assert torch.allclose(noise, reference_slerp(strength, one.normal(SHAPE), two), atol=1e-5)
    assert torch.equal(after.normal(SHAPE), one.normal(SHAPE))


def test_the_ends_of_variation_are_the_two_noises() -> None:
    assert torch.equal(first_noise(Seed(1, 2, 0.0), SHAPE)[0], stream(1).normal(SHAPE))
    assert torch.equal(first_noise(Seed(1, 2, 1.0), SHAPE)[0], stream(2).normal(SHAPE))
    assert torch.allclose(first_noise(Seed(1, 1, 0.4), SHAPE)[0], stream(1).normal(SHAPE), atol=1e-6)


def test_variation_of_a_single_row_is_finite() -> None:
    assert bool(slerp(torch.randn(4, 1, 5), torch.randn(4, 1, 5), 0.3).isfinite().all())


def test_a_resized_seed_keeps_its_noise_in_the_centre() -> None:
    small, full = (4, 4, 4), (4, 9, 6)
    noise, after = first_noise(Seed(7, resized_from=small[1:]), full)
    of = stream(7)
    around = of.normal(full)
    assert torch.equal(noise[:, 2:6, 1:5], stream(7).normal(small))
    assert torch.equal(noise[:, :2], around[:, :2])
    assert torch.equal(after.normal(full), of.normal(full))


def test_a_seed_resized_from_larger_is_cut_at_its_centre() -> None:
    large = torch.arange(100.0).reshape(1, 10, 10)
    assert torch.equal(pasted(large, torch.zeros(1, 4, 4)), large[:, 3:7, 3:7])
    assert torch.equal(pasted(large, torch.zeros(1, 4, 12))[:, :, 1:11], large[:, 3:7])
    odd = pasted(large, torch.full((1, 7, 10), -1.0))
    assert torch.equal(odd[:, :6], large[:, 2:8]), "A1111 takes w + 2 floor((W - w) / 2) of them"
    assert torch.equal(odd[:, 6:], torch.full((1, 1, 10), -1.0))


def test_a_picture_of_a_batch_is_the_picture_alone() -> None:
    seeds = [Seed(10, 50 + i, 0.2, (4, 4), 3) for i in range(3)]
    noise, streams = first_noises(seeds, SHAPE)
    alone, after = first_noise(seeds[1], SHAPE)
    assert torch.equal(noise[1], alone)
    assert torch.equal(streams[1].normal(SHAPE), after.normal(SHAPE))


@pytest.mark.parametrize("wrong", [{"strength": 1.5}, {"strength": float("nan")}, {"resized_from": (0, 4)}])
def test_what_makes_no_sense_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        Seed(1, **wrong)
