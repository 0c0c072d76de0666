"""Resolving leaves nothing open."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from atelier.errors import BadInput, UnknownName
from atelier.request.groups import Noise
from atelier.request.model import ModelRef, Request
from atelier.request.resolve import ALL_SEEDS, Defaults, Offer, resolve


def method(sampler: str, scheduler: str | None) -> tuple[str, str]:
    known = {"dpm++ 2m": ("DPM++ 2M", "Karras"), "euler a": ("Euler a", "Uniform")}
    if sampler.casefold() not in known:
        raise UnknownName("sampler", sampler, ("DPM++ 2M", "Euler a"))
    name, own = known[sampler.casefold()]
    return name, scheduler.capitalize() if scheduler else own


OFFER = Offer(
    method,
    model=ModelRef("tiny", "tiny.safetensors", "ab" * 32),
    defaults=Defaults(sampler="DPM++ 2M", steps=20, cfg_scale=5.0, width=64, height=96, side_step=8),
)


def test_the_model_fills_what_is_left_open():
    done = resolve(Request(prompt="a cat"), OFFER)
    assert (done.sampler, done.scheduler, done.steps, done.cfg_scale) == ("DPM++ 2M", "Karras", 20, 5.0)
    assert (done.width, done.height, done.model) == (64, 96, OFFER.model)


def test_what_was_asked_for_stays():
    asked = Request(
        prompt="p",
        negative_prompt="n",
        sampler="euler A",
        scheduler="karras",
        steps=3,
        cfg_scale=0,
        seed=9,
        width=128,
        height=72,
        batch_size=2,
        output="x",
    )
    done = resolve(asked, OFFER)
    assert (done.sampler, done.scheduler, done.steps, done.cfg_scale) == ("Euler a", "Karras", 3, 0)
    assert (done.seeds, done.width, done.height) == ((9, 10), 128, 72)


def test_unknown_names_are_told():
    with pytest.raises(UnknownName, match="Euler a"):
        resolve(Request(prompt="", sampler="Eular"), OFFER)


def test_sizes_fit_the_model():
    offer = replace(OFFER, defaults=replace(OFFER.defaults, side_step=16))
    with pytest.raises(BadInput, match="width 72 is not a multiple of 16: use 64 or 80"):
        resolve(Request(prompt="", width=72), offer)


def test_seeds_are_drawn_once_and_count_up():
    request = Request(prompt="", seed=-1, batch_size=2, batch_count=2)
    first = resolve(request, OFFER, random.Random(1)).seeds
    assert first == resolve(request, OFFER, random.Random(1)).seeds
    assert first == tuple(first[0] + i for i in range(4))
    assert first != resolve(request, OFFER, random.Random(2)).seeds
    assert resolve(request, OFFER).seeds != resolve(request, OFFER).seeds


def test_the_largest_seed_is_followed_by_the_smallest():
    request = Request(prompt="", seed=ALL_SEEDS - 1, batch_size=2)
    assert resolve(request, OFFER).seeds == (ALL_SEEDS - 1, 0)


def test_a_variation_shares_the_seed_and_counts_the_variation_seeds():
    request = Request(prompt="", seed=5, noise=Noise(variation_seed=9, variation_strength=0.1), batch_size=3)
    done = resolve(request, OFFER)
    assert (done.seeds, done.variation_seeds) == ((5, 5, 5), (9, 10, 11))
    drawn = resolve(
        Request(prompt="", seed=5, noise=Noise(variation_strength=0.1)), OFFER, random.Random(1)
    ).variation_seeds
    assert (
        drawn
        == resolve(
            Request(prompt="", seed=5, noise=Noise(variation_strength=0.1)), OFFER, random.Random(1)
        ).variation_seeds
    )
    assert resolve(Request(prompt="", seed=5, noise=Noise(variation_seed=9), batch_size=2), OFFER).variation_seeds == (
        0,
        0,
    )
