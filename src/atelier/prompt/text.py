"""What every part of the prompt language shares: limits, warnings, words, finite numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from atelier.errors import BadInput

MAX_CHARACTERS = 16_000
MAX_TOKENS = 2_000
MAX_DEPTH = 100
"""How deep brackets that mean something may nest; what nests deeper is literal text."""
MAX_WEIGHT = 1e6
"""Weights beyond this, infinite ones too, are clamped to it."""

T = TypeVar("T")
Warn = Callable[[str], None]
"""Takes one line about something in a prompt that is probably not meant."""


def silent(message: str, /) -> None:
    """A Warn that keeps quiet."""


def checked(text: str, what: str = "prompt") -> str:
    """The text itself. Raises BadInput if it is longer than MAX_CHARACTERS."""
    if len(text) > MAX_CHARACTERS:
        raise BadInput(f"{what} has {len(text):,} characters: the limit is {MAX_CHARACTERS:,}, shorten it")
    return text


def clamped(weight: float, warn: Warn = silent) -> float:
    """The weight within -MAX_WEIGHT..MAX_WEIGHT; NaN becomes 1. Warns where it changes something."""
    if -MAX_WEIGHT <= weight <= MAX_WEIGHT:
        return weight
    near = 1.0 if weight != weight else MAX_WEIGHT if weight > 0 else -MAX_WEIGHT  # noqa: PLR0124 - NaN is not itself
    warn(f"weight {weight:g} is clamped to {near:g}")
    return near


def is_word_character(character: str) -> bool:
    """Whether a regular expression's word boundary counts the character as part of a word (letters, digits, _)."""
    return character == "_" or character.isalnum()


def words(text: str, word: str) -> Iterator[int]:
    """Where `word` stands as a word of its own: neither neighbour is a word character. In order, in linear time."""
    at = text.find(word)
    while at >= 0:
        end = at + len(word)
        before = at > 0 and is_word_character(text[at - 1])
        after = end < len(text) and is_word_character(text[end])
        if not before and not after:
            yield at
        at = text.find(word, end)


def runs_joined(items: Iterable[str | T]) -> Iterator[str | T]:
    """The items in their order, each run of neighbouring texts as one text."""
    run: list[str] = []
    for item in items:
        if isinstance(item, str):
            run.append(item)
            continue
        if run:
            yield "".join(run)
            run = []
        yield item
    if run:
        yield "".join(run)
