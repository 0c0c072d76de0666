"""Planning is a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier.pipeline.plan import plan
from atelier.pipeline.stages import Decode, Diffuse, Encode, Save
from atelier.request.model import ModelRef, Resolved

REQUEST = Resolved(
    prompt="a cat",
    negative_prompt="a dog",
    model=ModelRef("tiny", "tiny", "ab" * 32),
    steps=3,
    sampler="Euler",
    scheduler="Karras",
    cfg_scale=5.0,
    seeds=(7, 8, 9, 10, 11, 12),
    rng="portable",
    width=64,
    height=96,
    batch_size=3,
    output="outputs",
)


def test_one_picture():
    encode, diffuse, decode, save = plan(replace(REQUEST, seeds=(7,), batch_size=1), version="1")
    assert encode == Encode(REQUEST.model, "a cat", "a dog")
    assert isinstance(diffuse, Diffuse)
    assert (diffuse.sampler, diffuse.scheduler, diffuse.steps, diffuse.cfg_scale) == ("Euler", "Karras", 3, 5.0)
    assert (diffuse.width, diffuse.height, diffuse.rng) == (64, 96, "portable")
    assert decode == Decode(REQUEST.model, diffuse.slots)
    assert save == Save(diffuse.slots, 1, "outputs")
    (slot,) = diffuse.slots
    assert (slot.picture, slot.seed) == (0, 7)
    assert "Seed: 7," in slot.infotext


@pytest.mark.parametrize(
    ("together", "groups"), [(None, [3, 3]), (1, [1] * 6), (2, [2, 1, 2, 1]), (3, [3, 3]), (8, [3, 3])]
)
def test_groups_are_within_batches_and_within_what_fits(together: int | None, groups: list[int]):
    stages = plan(REQUEST, version="1", together=together)
    diffusing = [stage for stage in stages if isinstance(stage, Diffuse)]
    assert [len(stage.slots) for stage in diffusing] == groups
    slots = [slot for stage in diffusing for slot in stage.slots]
    assert [(slot.picture, slot.seed) for slot in slots] == list(enumerate(REQUEST.seeds))


def test_each_group_is_finished_before_the_next_begins():
    stages = plan(REQUEST, version="1", together=1)
    assert [type(stage) for stage in stages] == [Encode] + [Diffuse, Decode, Save] * 6


def test_without_an_output_nothing_is_saved():
    stages = plan(replace(REQUEST, output=None), version="1")
    assert not any(isinstance(stage, Save) for stage in stages)


def test_the_same_request_is_the_same_plan():
    assert plan(REQUEST, version="1") == plan(replace(REQUEST), version="1")
