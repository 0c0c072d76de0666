"""Parsers take time in proportion to the text, whatever it is: counted in lines of Python that run, not in seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from atelier.errors import BadInput
from atelier.prompt import (
    Clock,
    expand,
    parse,
    parse_attention,
    parse_tree,
    print_attention,
    timeline,
    without_comments,
)
from atelier.prompt.comfy import parse_comfy
from atelier.prompt.wildcards import parse_choices
from counting import lines_run

HOSTILE: dict[str, Callable[[int], str]] = {
    "open brackets": lambda n: "([" * (n // 2),
    "closing brackets": lambda n: ")" * n,
    "nested weights": lambda n: "(" * (n // 2) + ")" * (n // 2),
    "nested squares": lambda n: "[" * (n // 2) + "]" * (n // 2),
    "nested switches": lambda n: "[a:" * (n // 6) + ":1]" * (n // 6),
    "nested cycles": lambda n: "[a|" * (n // 4) + "]" * (n // 4),
    "many switches": lambda n: "[a:b:1]" * (n // 7),
    "many cycles": lambda n: "[a|b]" * (n // 5),
    "weights that close nothing": lambda n: ":1.1" * (n // 4),
    "overlapping brackets": lambda n: "([" * (n // 4) + ")]" * (n // 4),
    "tags without end": lambda n: "<lora:a" * (n // 7),
    "words": lambda n: "AND BREAK # " * (n // 12),
    "backslashes": lambda n: "\\" * n,
    "space": lambda n: "a" + " " * (n - 2) + ":",
    "braces": lambda n: "{a|" * (n // 4) + "}" * (n // 4),
    "braces and squares": lambda n: "{[|" * (n // 4) + "}" * (n // 4),
    "dollars": lambda n: "{2$$" * (n // 5) + "}" * (n // 5),
    "wildcards": lambda n: "__a" * (n // 3),
    "digits": lambda n: "(a:" + "1" * (n - 4) + ")",
}


def _timeline(text: str) -> None:
    timeline(parse_tree(text), Clock(20))


def _phrase_printed(text: str) -> None:
    str(parse(text))


def _attention_printed(text: str) -> None:
    print_attention(parse_attention(text))


def _expanded(text: str) -> None:
    expand(text, 1, {"a": ("b",)})


PARSERS: dict[str, Callable[[str], Any]] = {
    "attention": parse_attention,
    "comfy": parse_comfy,
    "phrase": parse,
    "timeline": _timeline,
    "choices": parse_choices,
    "expand": _expanded,
    "comments": without_comments,
    "phrase, printed": _phrase_printed,
    "attention, printed": _attention_printed,
}


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_twice_the_text_takes_at_most_two_and_a_half_times_the_work(parser: str, kind: str) -> None:
    make, call = HOSTILE[kind], PARSERS[parser]
    small, large = lines_run(call, make(1500)), lines_run(call, make(3000))
    assert large <= 2.5 * small + 500


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_20000_characters_raise_nothing(parser: str, kind: str) -> None:
    text = HOSTILE[kind](20_000)
    if parser == "expand" and kind == "wildcards":
        with pytest.raises(BadInput, match="10,000 choices"):
            expand(text * 10, 1, {"a": ("b",)})
    PARSERS[parser](text)


def test_parsing_a_long_prompt_is_far_from_quadratic() -> None:
    """Text of any kind takes at most 25 lines of Python per character."""
    for kind, make in HOSTILE.items():
        assert lines_run(parse, make(4_000)) <= 25 * 4_000, kind
