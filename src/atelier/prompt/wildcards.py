"""Choices drawn from the seed: {a|b}, {2$$a|b|c}, {1-2$$ and $$a|b|c}, {3::a|b}, and __name__ for a line of a file.

The syntax is that of the Dynamic Prompts extension. Braces without | or $$ are plain text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TypeAlias

from atelier.errors import BadInput
from atelier.prompt.draws import Draws
from atelier.prompt.text import MAX_CHARACTERS, MAX_DEPTH, Warn, runs_joined, silent

MAX_DRAWS = 10_000
"""How many choices one prompt may make."""

Files: TypeAlias = "Mapping[str, Sequence[str]]"
"""Wildcard name (with / between folders, without .txt) to its lines."""

_NAME = re.compile(r"[\w.,/*+ -]{1,200}")
_COUNT = re.compile(r"\s*+(\d{0,4}+)\s*+(-?+)\s*+(\d{0,4}+)\s*+")
_WEIGHT = re.compile(r"\s*(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})::")
_TOKEN = re.compile(r"\\.|__|\$\$|[{}|\[\]]", re.DOTALL)
_LINE_END = re.compile(r"\r\n|\r|\n")
"""What divides lines in editors; `splitlines` knows eight more."""
_JOINER = ", "


@dataclass(frozen=True, slots=True)
class Wild:
    """`__name__`"""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """`{…}`: from low to high different options, drawn by weight, with `joiner` between them."""

    options: tuple[tuple[float, Pieces], ...]
    low: int = 1
    high: int = 1
    joiner: str = _JOINER


Piece: TypeAlias = "str | Wild | Choice"
Pieces: TypeAlias = "tuple[Piece, ...]"


def read_wildcard(text: str) -> tuple[str, ...]:
    """The lines of a wildcard file, without empty ones and those that start with #."""
    lines = (line.strip() for line in _LINE_END.split(text.lstrip("\ufeff")))
    return tuple(line for line in lines if line and not line.startswith("#"))


def expand(text: str, seed: int, files: Files | None = None, warn: Warn = silent) -> str:
    """The text with every choice made; draws from `seed` alone. A wildcard that is not in `files` is literal, with a
    warning. `*` in a name stands for any characters.

    Raises BadInput where a wildcard includes itself, or the text grows beyond MAX_CHARACTERS.
    """
    if "{" not in text and "__" not in text:
        return text
    return _Expansion(files or {}, seed, warn).expand(text)


def parse_choices(text: str, warn: Warn = silent) -> Pieces:
    """The text as pieces; malformed braces are literal. Never raises, linear time."""
    return _Parser(warn).parse(text)


class _Expansion:
    def __init__(self, files: Files, seed: int, warn: Warn) -> None:
        self.files = files
        self.draws = Draws(seed)
        self.warn = warn
        self.parsed: dict[str, Pieces] = {}
        self.lines: dict[str, Sequence[str]] = {}

    def expand(self, text: str) -> str:
        pieces = self._pieces(text)
        _check_cycles(self, pieces)
        out: list[str] = []
        size = drawn = 0
        waiting: list[Piece] = list(reversed(pieces))
        while waiting:
            piece = waiting.pop()
            if isinstance(piece, str):
                out.append(piece)
                size += len(piece)
            else:
                drawn += 1
                waiting += reversed(list(self._drawn(piece)))
            if size > max(MAX_CHARACTERS, len(text)) or drawn > MAX_DRAWS:
                raise BadInput(
                    f"wildcards make the prompt longer than {MAX_CHARACTERS:,} characters or {MAX_DRAWS:,} choices"
                )
        return "".join(out)

    def found(self, name: str) -> Sequence[str]:
        """The lines that `name` stands for; none if there is no such wildcard."""
        if name not in self.lines:
            pattern = name.strip()
            if "*" in pattern:
                self.lines[name] = [
                    x for key in sorted(self.files) if fnmatchcase(key, pattern) for x in self.files[key]
                ]
            else:
                self.lines[name] = self.files.get(pattern, ())
        return self.lines[name]

    def names(self, pieces: Pieces) -> Iterator[str]:
        """Every wildcard named in the pieces."""
        waiting: list[Piece] = list(pieces)
        while waiting:
            piece = waiting.pop()
            if isinstance(piece, Wild):
                yield piece.name
            elif isinstance(piece, Choice):
                waiting += [p for _, option in piece.options for p in option]

    def named_by(self, name: str) -> list[str]:
        """Every wildcard named in the lines of a wildcard."""
        return sorted({n for line in self.found(name) for n in self.names(self._pieces(line)) if self.found(n)})

    def _pieces(self, text: str) -> Pieces:
        if text not in self.parsed:
            self.parsed[text] = parse_choices(text, self.warn)
        return self.parsed[text]

    def _drawn(self, piece: Wild | Choice) -> Pieces:
        if isinstance(piece, Wild):
            lines = self.found(piece.name)
            if lines:
                return self._pieces(lines[self.draws.between(0, len(lines) - 1)])
            name = piece.name.strip()
            problem = f"the wildcard {name!r} has no lines" if name in self.files else f"no wildcard is called {name!r}"
            self.warn(f"{problem}: __{piece.name}__ is plain text")
            return (f"__{piece.name}__",)
        return self._chosen(piece)

    def _chosen(self, choice: Choice) -> Pieces:
        options = self._options(choice)
        count = min(self.draws.between(choice.low, choice.high), len(options))
        weights = [weight for weight, _ in options]
        chosen = [self.draws.index(weights)] if count == 1 else self.draws.sample(weights, count)
        pieces: list[Piece] = []
        for i, index in enumerate(chosen):
            pieces += (choice.joiner, *options[index][1]) if i else options[index][1]
        return tuple(pieces)

    def _options(self, choice: Choice) -> Sequence[tuple[float, Pieces]]:
        """The options; those of several from one wildcard, `{2$$__name__}`, are its lines."""
        _, first = choice.options[0]
        if len(choice.options) == 1 and choice.high > 1 and len(first) == 1 and isinstance(first[0], Wild):
            return [(1.0, self._pieces(line)) for line in self.found(first[0].name)] or choice.options
        return choice.options


def _check_cycles(expansion: _Expansion, pieces: Pieces) -> None:
    """Raises BadInput if a wildcard that the pieces lead to leads back to itself."""
    done: set[str] = set()
    for first in expansion.names(pieces):
        path: list[str] = []
        waiting: list[tuple[str, bool]] = [(first, True)]
        while waiting:
            name, entering = waiting.pop()
            if not entering:
                done.add(path.pop())
            elif name in path:
                chain = " -> ".join(f"__{n}__" for n in [*path[path.index(name) :], name])
                raise BadInput(f"wildcard __{name}__ includes itself ({chain}): remove one of these lines")
            elif name not in done:
                path.append(name)
                waiting.append((name, False))
                waiting += [(n, True) for n in expansion.named_by(name)]


class _Open:
    """An open bracket: where it is among the items, where its bars begin among all, where its $$ are, its depth."""

    __slots__ = ("at", "bars", "depth", "dollars", "sign")

    def __init__(self, sign: str, at: int, bars: int) -> None:
        self.sign = sign
        self.at = at
        self.bars = bars
        self.dollars: tuple[int, ...] = ()
        self.depth = 0


class _TooDeep(Exception):
    """The text is taken as it stands."""


class _Parser:
    """items: text as str, and what is finished; bars: where among them the | of the open brackets are."""

    def __init__(self, warn: Warn) -> None:
        self.warn = warn
        self.items: list[Piece] = []
        self.bars: list[int] = []
        self.open: list[_Open] = []

    def parse(self, text: str) -> Pieces:
        try:
            self._read_all(text)
        except _TooDeep:
            self.warn(f"choices are nested more than {MAX_DEPTH} deep: the prompt is read as plain text")
            return (text,)
        return _pieces(self.items)

    def _read_all(self, text: str) -> None:
        at = 0
        while found := _TOKEN.search(text, at):
            start, end = found.span()
            if start > at:
                self.items.append(text[at:start])
            at = end
            sign = found.group()
            if sign == "__" and (name := _wildcard(text, at)):
                self.items.append(Wild(name))
                at += len(name) + 2
            else:
                self._sign(sign)
        if at < len(text):
            self.items.append(text[at:])

    def _sign(self, sign: str) -> None:
        inner = self.open[-1] if self.open else None
        if sign == "{" or (sign == "[" and inner):
            self.open.append(_Open(sign, len(self.items), len(self.bars)))
        elif inner is None:
            pass
        elif sign == "|":
            self.bars.append(len(self.items))
        elif sign == "$$" and inner.sign == "{" and len(self.bars) == inner.bars and len(inner.dollars) < 2:
            inner.dollars += (len(self.items),)
        elif sign == "]" and inner.sign == "[":
            self._leave(self.open.pop())
        elif sign == "}":
            self._close()
            return
        self.items.append(sign)

    def _close(self) -> None:
        while self.open[-1].sign == "[":  # never closed: its bars are those of what is around it
            square = self.open.pop()
            self.open[-1].depth = max(self.open[-1].depth, square.depth)
        brace = self.open.pop()
        choice = self._choice(brace)
        if choice is None:
            self.items.append("}")
        else:
            brace.depth += 1
            self.items[brace.at :] = [choice]
        if brace.depth > MAX_DEPTH:
            raise _TooDeep
        self._leave(brace)

    def _leave(self, inner: _Open) -> None:
        del self.bars[inner.bars :]
        if self.open:
            self.open[-1].depth = max(self.open[-1].depth, inner.depth)

    def _choice(self, brace: _Open) -> Choice | None:
        bars = self.bars[brace.bars :]
        start, low, high, joiner = self._counts(brace, len(bars) + 1)
        if start == brace.at and not bars:
            return None
        edges = [start, *bars, len(self.items)]
        options = tuple(_option(_pieces(self.items[a + 1 : b])) for a, b in pairwise(edges))
        return Choice(options, low, high, joiner)

    def _counts(self, brace: _Open, options: int) -> tuple[int, int, int, str]:
        """(where the first option begins, at least, at most, joiner) from what stands before $$."""
        if not brace.dollars:
            return brace.at, 1, 1, _JOINER
        first, *second = brace.dollars
        count = _COUNT.fullmatch(_text(self.items[brace.at + 1 : first]))
        if count is None or not (count[1] or count[3]):
            return brace.at, 1, 1, _JOINER
        low = int(count[1] or 0)
        high = int(count[3] or options) if count[2] else low
        low, high = min(low, high), max(low, high)
        if not second:
            return first, low, high, _JOINER
        return second[0], low, high, _text(self.items[first + 1 : second[0]])


def _wildcard(text: str, at: int) -> str:
    """The name of the wildcard whose first __ ends at `at`; "" if there is none."""
    end = text.find("__", at, at + 203)
    name = text[at:end] if end > at else ""
    return name if name.strip() and _NAME.fullmatch(name) else ""


def _option(pieces: Pieces) -> tuple[float, Pieces]:
    first = pieces[0] if pieces else None
    found = _WEIGHT.match(first) if isinstance(first, str) else None
    if found is None or not isinstance(first, str):
        return 1.0, pieces
    rest = first[found.end() :]
    return float(found[1]), (rest, *pieces[1:]) if rest else pieces[1:]


def _pieces(items: Sequence[Piece]) -> Pieces:
    return tuple(runs_joined(items))


def _text(items: Sequence[Piece]) -> str:
    return "".join(p for p in items if isinstance(p, str))
