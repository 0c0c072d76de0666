"""The prompt language on the embedded model: what is written has the effect that is meant."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from numpy.typing import NDArray

import atelier
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.judge import Judge

Images = list[NDArray[np.uint8]]
COLOURS = ("blue", "purple", "pink", "red")
"""Backgrounds that the model seldom makes by itself."""
APPLE, PIZZA = "a red apple on a white background", "a pizza on a white background"


judge = functools.cache(Judge)
"""Of the size of the images that it is shown, in pixels."""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return atelier.engine(device="cpu", dtype="fp32")


@functools.cache
def paint(engine: Engine, prompt: str, seeds: range = range(5), negative_prompt: str = "") -> Images:
    request = {"prompt": prompt, "negative_prompt": negative_prompt, "steps": 10, "cfg_scale": 1.5, "sampler": "Euler"}
    made = [engine.generate(request_of({**request, "seed": seed}))[0] for seed in seeds]
    return [np.asarray(picture.image) for picture in made]


def apart(some: Images, others: Images) -> float:
    """Mean distance of images with equal seeds, in levels of 255."""
    pairs = zip(some, others, strict=True)
    return float(np.mean([np.sqrt(np.square(a.astype(float) - b).mean()) for a, b in pairs]))


def places(pictures: Images, concept: str) -> float:
    """Mean place of a concept in the judge's ranking of all, 0 being the nearest."""
    return float(np.mean([judge(len(picture)).concept(picture).ranking.index(concept) for picture in pictures]))


def on(pictures: Images, background: str) -> int:
    return sum(judge(len(picture)).background(picture) == background for picture in pictures)


def _a(colour: str) -> str:
    return f"an {colour}" if colour[0] in "aeiou" else f"a {colour}"


def test_editing_goes_from_one_prompt_to_the_other(engine: Engine) -> None:
    apple, pizza = paint(engine, APPLE), paint(engine, PIZZA)
    early, half, late = (
        paint(engine, f"[a red apple:a pizza:{when}] on a white background") for when in (0.1, 0.3, 0.5)
    )
    assert 0 < apart(half, apple) < apart(pizza, apple), "it began as an apple"
    assert 0 < apart(half, pizza) < apart(apple, pizza), "it ended as a pizza"
    assert apart(late, apple) < apart(half, apple) < apart(early, apple)
    (at_once,) = paint(engine, "[a red apple:a pizza:0] on a white background", range(1))
    assert at_once.tobytes() == pizza[0].tobytes()


def test_a_weight_makes_a_word_stronger_or_weaker(engine: Engine) -> None:
    generated = [paint(engine, f"a (pizza:{weight}) cat on a white background") for weight in (0.6, 1, 1.4)]
    weak, plain, strong = (places(pictures, "pizza") for pictures in generated)
    assert weak > plain + 3 >= strong + 3, "the pizza comes forward"
    weak, _, strong = (places(pictures, "cat") for pictures in generated)
    assert weak + 5 < strong, "and the cat goes back"


def test_and_paints_both(engine: Engine) -> None:
    cat, dog, both = (paint(engine, prompt) for prompt in ("a cat", "a dog", "a cat AND a dog"))
    assert places(both, "cat") < places(dog, "cat")
    assert places(both, "dog") < places(cat, "dog")


def test_and_adds_what_the_other_part_says(engine: Engine) -> None:
    alone = paint(engine, "a pizza")
    before = sum(on(alone, colour) for colour in COLOURS)
    after = sum(on(paint(engine, f"a pizza AND a pizza on {_a(colour)} background"), colour) for colour in COLOURS)
    assert before <= 4, "of 20"
    assert after >= before + 9


def test_a_negative_prompt_keeps_a_colour_away(engine: Engine) -> None:
    seeds = range(16)
    free = paint(engine, "a pizza", seeds)
    without = paint(engine, "a pizza", seeds, negative_prompt="a green background")
    assert on(free, "green") > 1
    assert on(without, "green") < on(free, "green")
