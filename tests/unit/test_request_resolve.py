"""Resolving leaves nothing open."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest

from atelier.errors import BadInput, UnknownName
from atelier.request.model import ModelRef, Request
from atelier.request.resolve import ALL_SEEDS, Defaults, Offer, resolve


@dataclass(frozen=True)
class Spec:
    name: str
    scheduler: str = "Uniform"
    aliases: tuple[str, ...] = ()


SAMPLERS = [Spec("Euler", aliases=("k_euler",)), Spec("Euler a"), Spec("DPM++ 2M", "Karras")]
SCHEDULERS = [Spec("Uniform", aliases=("normal",)), Spec("SGM Uniform"), Spec("Karras")]
OFFER = Offer(
    samplers={s.name: s for s in SAMPLERS},
    schedulers={s.name: s for s in SCHEDULERS},
    model=ModelRef("tiny", "tiny.safetensors", "ab" * 32),
    defaults=Defaults(sampler="DPM++ 2M", steps=20, cfg_scale=5.0, width=64, height=96, side_step=8),
)


def test_the_model_fills_what_is_left_open():
    done = resolve(Request(prompt="a cat"), OFFER)
    assert (done.sampler, done.scheduler, done.steps, done.cfg_scale) == ("DPM++ 2M", "Karras", 20, 5.0)
    assert (done.width, done.height, done.model, done.output) == (64, 96, OFFER.model, None)


def test_what_was_asked_for_stays():
    asked = Request(
        prompt="p", negative_prompt="n", sampler="euler A", scheduler="karras", steps=3, cfg_scale=0, seed=9, width=128,
        height=72, batch_size=2, output="x",
    )  # fmt: skip
    done = resolve(asked, OFFER)
    assert (done.sampler, done.scheduler, done.steps, done.cfg_scale) == ("Euler a", "Karras", 3, 0)
    assert (done.seeds, done.width, done.height, done.batch_size, done.output) == ((9, 10), 128, 72, 2, "x")


@pytest.mark.parametrize(
    ("sampler", "scheduler", "found"),
    [
        (None, None, ("DPM++ 2M", "Karras")),
        (None, "Automatic", ("DPM++ 2M", "Karras")),
        ("Euler", None, ("Euler", "Uniform")),
        ("k_euler", "Normal", ("Euler", "Uniform")),
        ("Euler a Karras", None, ("Euler a", "Karras")),
        ("euler karras", "Uniform", ("Euler", "Karras")),
        ("Euler SGM Uniform", None, ("Euler", "SGM Uniform")),
    ],
)
def test_names_lead_to_registry_names(sampler: str | None, scheduler: str | None, found: tuple[str, str]):
    done = resolve(Request(prompt="", sampler=sampler, scheduler=scheduler), OFFER)
    assert (done.sampler, done.scheduler) == found


def test_the_models_own_scheduler_goes_with_its_own_sampler():
    offer = replace(OFFER, defaults=replace(OFFER.defaults, scheduler="SGM Uniform"))
    assert resolve(Request(prompt=""), offer).scheduler == "SGM Uniform"
    assert resolve(Request(prompt="", sampler="Euler"), offer).scheduler == "Uniform"


@pytest.mark.parametrize(
    ("fields", "near"),
    [
        ({"sampler": "Eular"}, "Euler"),
        ({"sampler": "Eular Karras"}, "Euler"),
        ({"scheduler": "karas"}, "Karras"),
        ({"scheduler": "zzz"}, "choose one of Uniform"),
    ],
)
def test_unknown_names_meet_the_nearest_ones(fields: dict[str, str], near: str):
    with pytest.raises(UnknownName, match=near):
        resolve(Request(prompt="", **fields), OFFER)


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
