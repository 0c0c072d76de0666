"""Choices and wildcards: drawn from the seed alone, never an endless loop."""

from __future__ import annotations

from collections import Counter

import pytest

from atelier.errors import BadInput
from atelier.prompt import expand
from atelier.prompt.draws import Draws
from atelier.prompt.wildcards import read_wildcard

FILES = {"animal": ("cat", "dog", "{red|blue} __bird__"), "bird": ("wren", "owl"), "x/one": ("1",), "x/two": ("2",)}


def outcomes(text: str, draws: int = 400) -> Counter[str]:
    return Counter(expand(text, seed, FILES) for seed in range(draws))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("{a|b}", {"a", "b"}),
        ("x {a|b|} y", {"x a y", "x b y", "x  y"}),
        ("{{a|b}|c}", {"a", "b", "c"}),
        ("{2$$a|b|c}", {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}),
        ("{1-2$$ and $$a|b}", {"a", "b", "a and b", "b and a"}),
        ("{-1$$a|b}", {"", "a", "b"}),
        ("{2-$$-$$a|b}", {"a-b", "b-a"}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("{0::a|b}", {"b"}),
        ("{2$$__bird__}", {"wren, owl", "owl, wren"}),
        ("{[x|y]|c}", {"[x|y]", "c"}),
        ("{a|[b}", {"a", "[b"}),
        ("__animal__", {"cat", "dog", "red wren", "red owl", "blue wren", "blue owl"}),
        ("__x/*__", {"1", "2"}),
    ],
)
def test_what_can_be_drawn(text: str, want: set[str]) -> None:
    assert set(outcomes(text)) == want


@pytest.mark.parametrize(
    "text", ["{a}", "a { b | c", "a | b } {", r"\{a|b\}", "__nobody__", "__", "____", "a__b", "{$$}", "[a|b]", "{a$$b}"]
)
def test_the_rest_is_text(text: str) -> None:
    assert set(outcomes(text, 20)) == {text}


def test_draws_follow_the_weights() -> None:
    assert outcomes("{3::a|b}", 1000)["a"] == pytest.approx(750, abs=60)
    assert outcomes("{a|b|c|d}", 1000)["d"] == pytest.approx(250, abs=60)
    first = Counter(expand("{2$$3::a|b}", seed)[0] for seed in range(1000))
    assert first["a"] == pytest.approx(750, abs=60)


def test_the_seed_decides() -> None:
    """Fixed for all time: images depend on it."""
    assert [expand("{a|b|c|d|e|f}", seed) for seed in range(8)] == ["c", "e", "e", "e", "f", "e", "c", "a"]
    assert expand("{3$$a|b|c|d|e|f} {g|h}", 2**64 - 1) == "b, c, d h"


def test_the_generator_is_splitmix64() -> None:
    """The published first numbers of SplitMix64 for the seed 1234567, of which 53 bits are used."""
    published = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    draws = Draws(1234567)
    assert [draws.fraction() for _ in published] == [(number >> 11) * 2.0**-53 for number in published]


def test_an_unknown_wildcard_warns() -> None:
    warnings: list[str] = []
    assert expand("a __nobody__", 1, FILES, warnings.append) == "a __nobody__"
    assert warnings == ["no wildcard is called 'nobody': __nobody__ is plain text"]


@pytest.mark.parametrize(
    "files",
    [
        {"a": ("__a__",)},
        {"a": ("x", "__b__"), "b": ("y", "{1|__c__}"), "c": ("__a__ z",)},
        {"a": ("__*__",)},
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_a_wildcard_that_includes_itself_is_bad_input_whatever_is_drawn(
    files: dict[str, tuple[str, ...]], seed: int
) -> None:
    with pytest.raises(BadInput, match="includes itself"):
        expand("__a__", seed, files)


def test_wildcards_that_grow_without_end_are_bad_input() -> None:
    files = {f"w{i}": (f"__w{i + 1}__ __w{i + 1}__",) for i in range(40)} | {"w40": ("x",)}
    with pytest.raises(BadInput, match="longer than 16,000 characters or 10,000 choices"):
        expand("__w0__", 1, files)
    empty = {f"w{i}": (f"__w{i + 1}____w{i + 1}__",) for i in range(40)} | {"w40": ("",)}
    with pytest.raises(BadInput, match="10,000 choices"):
        expand("__w0__", 1, empty)


def test_reading_a_wildcard_file() -> None:
    assert read_wildcard("\ufeffcat\n# no\n\n  dog  \n") == ("cat", "dog")
