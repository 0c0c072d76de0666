"""The words that a step sees of a caption: what happens, and in which order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atelier.errors import BadInput
from atelier.train.data.wording import Turn, Wording, worded

TURN = Turn(seed=1, step=5, place=2)
TAGS = "one, two, three, four, five, six"


def _many(caption: str, wording: Wording, count: int = 400) -> list[str]:
    return [worded(caption, wording, Turn(seed=3, step=step, place=0)) for step in range(count)]


@pytest.mark.parametrize(
    ("caption", "wording", "words"),
    [
        ("a dog", Wording(), "a dog"),
        ("a dog\na cat", Wording(), "a dog"),
        ("a  {b|c}, d,", Wording(), "a  {b|c}, d,"),
        ("a dog", Wording(prefix="photo of", suffix="outside"), "photo of a dog outside"),
        ("", Wording(suffix="outside"), "outside"),
        ("a dog\na cat", Wording(suffix="outside"), "a dog outside"),
        ("a {{b|c}} {d}", Wording(choices=True), "a {b|c} d"),
        ("a {b|c}} d", Wording(choices=True), "a {b|c} d"),
        ("a dog", Wording(dropout=1.0), ""),
        ("a, b ||| c,, d ||| e", Wording(keep_separator="|||"), "a, b, c, d, e"),
        ("a;b;c", Wording(shuffle=True, keep=3, separator=";"), "a, b, c"),
        ("a, b;;c", Wording(shuffle=True, keep=2, second_separator=";;"), "a, b,c"),
        ("a;;b", Wording(second_separator=";;"), "a,b"),
        ("a, b, c", Wording(tag_dropout=1.0, keep=1), "a"),
        ("a ||| b, c", Wording(tag_dropout=1.0, keep_separator="|||"), "a"),
        ("a ||| b, c ||| d, e", Wording(tag_dropout=1.0, keep_separator="|||"), "a, d, e"),
    ],
)
def test_what_becomes_of_a_caption(caption: str, wording: Wording, words: str) -> None:
    assert worded(caption, wording, TURN) == words


def test_words_are_a_function_of_seed_step_and_place() -> None:
    wording = Wording(shuffle=True)
    first = worded(TAGS, wording, TURN)
    assert worded(TAGS, wording, TURN) == first
    others = [Turn(2, 5, 2), Turn(1, 6, 2), Turn(1, 5, 3)]
    assert len({first, *(worded(TAGS, wording, turn) for turn in others)}) == 4


def test_captions_are_dropped_as_often_as_asked() -> None:
    assert 60 < _many("a", Wording(dropout=0.25)).count("") < 140


def test_captions_are_dropped_in_every_nth_epoch() -> None:
    told = [worded("a", Wording(every_epochs=3), Turn(0, step, 0, epoch=step)) for step in range(7)]
    assert told == ["a", "a", "", "a", "a", "", "a"]


def test_lines_and_choices_are_drawn() -> None:
    drawn = Counter(_many("a {red|blue} dog\na cat", Wording(choices=True, prefix="x")))
    assert set(drawn) == {"x a red dog", "x a blue dog", "x a cat"}
    assert 140 < drawn["x a cat"] < 260
    assert 60 < drawn["x a red dog"] < 140


def test_tags_are_shuffled_but_for_those_that_are_kept() -> None:
    drawn = [words.split(", ") for words in _many(TAGS, Wording(shuffle=True, keep=2), 100)]
    assert all(tags[:2] == ["one", "two"] for tags in drawn)
    assert all(sorted(tags) == sorted(TAGS.split(", ")) for tags in drawn)
    assert len({tuple(tags) for tags in drawn}) == 24
    marked = Wording(shuffle=True, keep=1, keep_separator="|||")
    ends = [words.split(", ") for words in _many("a, b ||| c, d, e ||| f", marked, 60)]
    assert all((tags[:2], tags[-1]) == (["a", "b"], "f") for tags in ends)
    assert len({tuple(tags) for tags in ends}) == 6


def test_tags_are_dropped_as_often_as_asked() -> None:
    drawn = _many(TAGS, Wording(tag_dropout=0.25, keep=1))
    assert all(words.startswith("one") for words in drawn)
    assert 0.7 < sum(words.count(", ") for words in drawn) / 2000 < 0.8


@pytest.mark.parametrize(
    ("warmup", "least", "counts"),
    [(4, 1, [1, 2, 3, 4, 6, 6]), (0.5, 2, [2, 2, 3, 4, 4, 5, 6, 6]), (4, 6, [6, 6]), (1, 1, [1, 6])],
)
def test_tags_come_one_after_the_other(warmup: float, least: int, counts: list[int]) -> None:
    wording = Wording(warmup=warmup, least=least)
    told = [worded(TAGS, wording, Turn(0, step, 0, steps=12)) for step in range(len(counts))]
    assert [words.count(",") + 1 for words in told] == counts
    assert told[0].split(", ") == TAGS.split(", ")[:least]


@given(st.text(max_size=40), st.booleans(), st.booleans(), st.integers(0, 3))
def test_any_text_becomes_words(text: str, choices: bool, shuffle: bool, keep: int) -> None:
    wording = Wording(choices=choices, shuffle=shuffle, keep=keep, keep_separator="|||", second_separator=";;")
    assert isinstance(worded(text, wording, TURN), str)


@pytest.mark.parametrize("wrong", [{"dropout": 1.5}, {"tag_dropout": -0.1}, {"separator": ""}])
def test_shares_and_separators_that_are_none(wrong: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Wording(**wrong)  # pyright: ignore[reportArgumentType]
