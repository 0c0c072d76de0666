r"""Weights in brackets: (x) [x] (x:1.3), and the escapes \( \) \[ \] \\.

The grammar is A1111's (docs/compatibility/prompts.md). Round and square brackets are two separate stacks and may
overlap, so what is read is a list of weighted texts and not a tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from atelier.prompt.text import Warn, clamped, silent, words

ROUND = 1.1
SQUARE = 1 / 1.1
BREAK = "BREAK"

_NUMBER = r"[+-]?+(?:\d++(?:\.\d*+)?+|\.\d++)"
_CLOSING = rf":\s*+{_NUMBER}\s*+\)"
_TOKEN = re.compile(rf"(?:[^\\()\[\]:]++|:(?!\s*+{_NUMBER}\s*+\)))++|{_CLOSING}|\\[()\[\]\\]?+|[()\[\]]")
_ESCAPES = str.maketrans({sign: f"\\{sign}" for sign in "\\()[]"})
_BREAK = re.compile(rf"\b{BREAK}\b")
_EXACT = 24
"""Up to this depth factors are multiplied from the inside out, as A1111 does, so that equal weights stay equal."""


class Weighted(NamedTuple):
    """A text and how strongly it counts (1 is plain)."""

    text: str
    weight: float = 1.0

    @property
    def is_break(self) -> bool:
        """Whether this is no text but the end of a chunk."""
        return self.text == BREAK and self.weight == -1


def parse_attention(text: str, warn: Warn = silent) -> tuple[Weighted, ...]:
    """The text as weighted pieces, neighbours of equal weight joined; at least one, never raises, linear time.

    BREAK, as a word outside of weights, becomes Weighted("BREAK", -1). A weight that is no number, as in (a:1.5.3), is
    literal text (A1111 fails on it).
    """
    scanner = _Scanner(warn)
    for found in _TOKEN.finditer(text):
        scanner.read(found.group())
    return _joined(scanner.weighted()) or (Weighted(""),)


def print_attention(items: Iterable[Weighted]) -> str:
    """The shortest plain way to write the items: parse_attention gives back the same items if no two neighbours have
    equal weights."""
    items = tuple(items)
    return "".join(_printed(items, i) for i in range(len(items)))


def number_text(weight: float) -> str:
    """The weight in digits, without an exponent, exactly."""
    text = repr(weight)
    if "e" in text:
        text = f"{Decimal(text):f}"
    return text.removesuffix(".0")


class _Bracket:
    """A bracket that was opened: what it multiplies by, when it was closed, and the product of it and all around it."""

    __slots__ = ("closed", "factor", "parent", "total")

    def __init__(self, parent: _Bracket | None) -> None:
        self.parent = parent
        self.factor = 1.0
        self.closed = 0
        self.total = 1.0


_Around = tuple[_Bracket | None, _Bracket | None]
"""The innermost round and the innermost square bracket around a piece of text."""


class _Scanner:
    """Reads tokens; keeps for each piece of text the innermost round and the innermost square bracket around it. `run`
    is the piece that is being read; a bracket ends it."""

    def __init__(self, warn: Warn) -> None:
        self.warn = warn
        self.pieces: list[tuple[list[str], float, _Around]] = []
        self.run: list[str] | None = None
        self.brackets: list[_Bracket] = []
        self.round: _Bracket | None = None
        self.square: _Bracket | None = None
        self.clock = 0

    def read(self, token: str) -> None:
        """Takes the next token."""
        if token == "(":
            self.round = self._opened(self.round)
        elif token == "[":
            self.square = self._opened(self.square)
        elif token == ")" and self.round:
            self.round = self._closed(self.round, ROUND)
        elif token == "]" and self.square:
            self.square = self._closed(self.square, SQUARE)
        elif token[0] == "\\":
            self._put(token[1:])
        elif token[0] == ":" and token[-1] == ")" and self.round:
            self.round = self._closed(self.round, clamped(float(token[1:-1]), self.warn))
        elif BREAK in token:
            self._put_words(token)
        else:
            self._put(token)

    def weighted(self) -> list[Weighted]:
        """All pieces with their weights; brackets that are still open are closed here, the round ones first."""
        for bracket, factor in ((self.round, ROUND), (self.square, SQUARE)):
            self.clock += 1
            while bracket:
                bracket.factor, bracket.closed = factor, self.clock
                bracket = bracket.parent  # noqa: PLW2901 - walks up
        for bracket in self.brackets:  # parents come before their children
            outer = bracket.parent.total if bracket.parent else 1.0
            bracket.total = clamped(outer * bracket.factor)
        products: dict[_Around, float] = {}
        for _, _, around in self.pieces:
            if around not in products:
                products[around] = clamped(_product(*around), self.warn)
        return [Weighted("".join(run), weight * products[around]) for run, weight, around in self.pieces]

    def _opened(self, parent: _Bracket | None) -> _Bracket:
        self.run = None
        bracket = _Bracket(parent)
        self.brackets.append(bracket)
        return bracket

    def _closed(self, bracket: _Bracket, factor: float) -> _Bracket | None:
        self.run = None
        self.clock += 1
        bracket.factor, bracket.closed = factor, self.clock
        return bracket.parent

    def _put_words(self, text: str) -> None:
        at = 0
        for found in words(text, BREAK):
            self._put(text[at:found].rstrip())
            self.pieces.append(([BREAK], -1.0, (self.round, self.square)))
            self.run = None
            at = found + len(BREAK)
            while at < len(text) and text[at].isspace():
                at += 1
        self._put(text[at:])

    def _put(self, text: str) -> None:
        if self.run is None:
            self.run = []
            self.pieces.append((self.run, 1.0, (self.round, self.square)))
        self.run.append(text)


def _product(round_: _Bracket | None, square: _Bracket | None) -> float:
    """All factors around a piece: the first ones in the order in which the brackets were closed."""
    product = 1.0
    for _ in range(_EXACT):
        if round_ and (square is None or round_.closed < square.closed):
            product, round_ = product * round_.factor, round_.parent
        elif square:
            product, square = product * square.factor, square.parent
        else:
            return product
    rest = (round_.total if round_ else 1.0) * (square.total if square else 1.0)
    return product * rest


def _joined(items: list[Weighted]) -> tuple[Weighted, ...]:
    runs = groupby(items, itemgetter(1))
    return tuple(Weighted("".join([text for text, _ in run]), weight) for weight, run in runs)


def _printed(items: tuple[Weighted, ...], i: int) -> str:
    item = items[i]
    if item.is_break and _plain_break(items, i):
        return f" {BREAK} "
    if not item.text:
        return "" if _vanishes(items, i) else f"(\\:{number_text(item.weight)})"
    text = _escaped(item.text)
    if item.weight == 1:
        return text
    short = ":" not in text and "|" not in text
    if short and item.weight == ROUND:
        return f"({text})"
    if short and item.weight == SQUARE:
        return f"[{text}]"
    return f"({text}:{number_text(item.weight)})"


def _escaped(text: str) -> str:
    escaped = text.translate(_ESCAPES)
    return _BREAK.sub(r"BR\\EAK", escaped) if BREAK in escaped else escaped


def _plain_break(items: tuple[Weighted, ...], i: int) -> bool:
    """Whether BREAK can be written between its neighbours as a word: it takes plain text, and eats space around it."""
    if not 0 < i < len(items) - 1:
        return False
    before, after = items[i - 1], items[i + 1]
    plain = before.weight == after.weight == 1
    return plain and before.text == before.text.rstrip() and after.text == after.text.lstrip()


def _vanishes(items: tuple[Weighted, ...], i: int) -> bool:
    """Whether empty text is read here when nothing is written."""
    if items[i].weight != 1:
        return False
    beside = [j for j in (i - 1, i + 1) if 0 <= j < len(items)]
    return len(items) == 1 or any(items[j].is_break and _plain_break(items, j) for j in beside)
