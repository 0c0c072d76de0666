"""Planning is a pure function."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atelier.errors import BadInput
from atelier.pipeline.plan import plan
from atelier.pipeline.stages import Decode, Diffuse, Encode, Save
from atelier.request.model import ModelRef, Provenance, Request, Resolved
from atelier.request.table import flat, request_of

ASKED = Request(prompt="a cat", negative_prompt="a dog", batch_size=3, output="outputs")
REQUEST = Resolved(
    asked=ASKED,
    prompt="a cat",
    negative_prompt="a dog",
    model=ModelRef("tiny", "tiny", "ab" * 32),
    steps=3,
    sampler="Euler",
    scheduler="Karras",
    cfg_scale=5.0,
    seeds=(7, 8, 9, 10, 11, 12),
    variation_seeds=(0,) * 6,
    width=64,
    height=96,
)
MAKER = Provenance("1", "fp32", "cpu", "torch 2.13.0")


def asking(prompt: str, seeds: tuple[int, ...] = (7,), **fields: object) -> Resolved:
    """REQUEST with another prompt, and other fields of what was asked."""
    said = {**flat(ASKED), "prompt": prompt, "batch_size": len(seeds), **fields}
    asked = request_of(said)
    return replace(REQUEST, asked=asked, prompt=prompt, seeds=seeds, variation_seeds=(0,) * len(seeds))


def test_one_picture():
    request = asking("a cat")
    encode, diffuse, decode, save = plan(request, MAKER)
    assert encode == Encode(REQUEST.model, (("a dog",), ("a cat",)), "Original", 1)
    assert isinstance(diffuse, Diffuse)
    assert diffuse.request == request
    assert decode == Decode(REQUEST.model, diffuse.samples)
    assert save == Save(diffuse.samples, 1, "outputs")
    (sample,) = diffuse.samples
    assert (sample.picture, sample.seed, sample.settings.seed) == (0, 7, 7)


@pytest.mark.parametrize(
    ("max_batch", "groups"), [(None, [3, 3]), (1, [1] * 6), (2, [2, 1, 2, 1]), (3, [3, 3]), (8, [3, 3])]
)
def test_groups_are_within_batches_and_within_what_fits(max_batch: int | None, groups: list[int]):
    stages = plan(REQUEST, MAKER, max_batch=max_batch)
    diffusing = [stage for stage in stages if isinstance(stage, Diffuse)]
    assert [len(stage.samples) for stage in diffusing] == groups
    samples = [sample for stage in diffusing for sample in stage.samples]
    assert [(sample.picture, sample.seed) for sample in samples] == list(enumerate(REQUEST.seeds))


def test_each_group_is_finished_before_the_next_begins():
    stages = plan(REQUEST, MAKER, max_batch=1)
    assert [type(stage) for stage in stages] == [Encode] + [Diffuse, Decode, Save] * 6


def test_without_an_output_nothing_is_saved():
    stages = plan(asking("a cat", output=None), MAKER)
    assert not any(isinstance(stage, Save) for stage in stages)


def test_the_same_request_is_the_same_plan():
    assert plan(REQUEST, MAKER) == plan(replace(REQUEST), MAKER)


def texts(request: Resolved, **options: object) -> list[list[list[tuple[int, str]]]]:
    """Of every picture, of every part: what is active up to which step."""
    stages = plan(request, MAKER, **options)
    samples = [sample for stage in stages if isinstance(stage, Diffuse) for sample in stage.samples]
    return [[[(s.end, s.text) for s in part.spans] for part in sample.prepared.parts] for sample in samples]


def test_timelines_count_the_calls_of_the_sampler():
    assert texts(asking("[a:b:0.5]")) == [[[(1, "a"), (3, "b")]]]
    assert texts(replace(asking("[a:b:0.5]"), sampler="Heun")) == [[[(3, "a"), (6, "b")]]]
    assert texts(replace(asking("[a:b:0.5]"), sampler="DPM adaptive")) == [[[(1, "a"), (3, "b")]]]
    assert texts(asking("[a:b:2.5]", old_timelines=True)) == [[[(2, "a"), (3, "b")]]]


def test_choices_are_drawn_for_each_picture():
    many = tuple(range(7, 27))
    drawn = [parts[0][0][1] for parts in texts(asking("a {red|blue} cat", many))]
    assert set(drawn) == {"a red cat", "a blue cat"}
    assert drawn == [texts(asking("a {red|blue} cat", (seed,)))[0][0][0][1] for seed in many]
    assert texts(asking("a {red|blue} cat", choices=False)) == [[[(3, "a {red|blue} cat")]]]
    files = {"colour": ("green",)}
    assert texts(asking("a __colour__ cat"), files=files) == [[[(3, "a green cat")]]]
    (sample,) = next(s for s in plan(asking("a {red|red} cat"), MAKER) if isinstance(s, Diffuse)).samples
    assert (sample.settings.prompt, sample.settings.template) == ("a red cat", "a {red|red} cat")


def test_pictures_of_other_weights_are_painted_apart():
    request = asking("{a AND b|c}", tuple(range(7, 27)))
    diffusing = [stage for stage in plan(request, MAKER) if isinstance(stage, Diffuse)]
    assert all(len({sample.prepared.weights for sample in stage.samples}) == 1 for stage in diffusing)
    assert [sample.seed for stage in diffusing for sample in stage.samples] == list(request.seeds)
    assert 1 < len(diffusing) < 20


def test_every_text_is_encoded_once():
    encode = plan(asking("[a|b] AND c", tuple(range(7, 12))), MAKER)[0]
    assert isinstance(encode, Encode)
    assert encode.groups == (("a dog",), ("a", "b"), (" c",))


def test_networks_are_refused_or_left_out():
    with pytest.raises(BadInput, match=r"lora 'x' is not there: take <lora:x:1> out.*--lenient"):
        plan(asking("a <lora:x:1>cat"), MAKER)
    said: list[str] = []
    assert texts(asking("a <lora:x:1>cat", lenient=True), warn=said.append) == [[[(3, "a cat")]]]
    assert said == ["lora 'x' is not there: painted without it"]


def test_weights_out_of_bounds_are_clamped_with_a_note():
    said: list[str] = []
    plan(asking("(a:1" + "0" * 400 + ")"), MAKER, warn=said.append)
    assert said == ["weight inf is clamped to 1e+06"]


@pytest.mark.parametrize(
    ("prompt", "fields", "told"),
    [
        ("x" * 16_001, {}, "prompt has 16,001 characters"),
        ("a", {"emphasis": "Orignal"}, "unknown emphasis mode 'Orignal': did you mean Original"),
        ("__a__", {}, "includes itself"),
    ],
)
def test_words_that_cannot_be_painted(prompt: str, fields: dict[str, object], told: str):
    with pytest.raises(BadInput, match=told):
        plan(asking(prompt, **fields), MAKER, files={"a": ("__a__",)})
