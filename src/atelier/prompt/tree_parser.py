r"""The parser of trees: one pass over the text with a stack of open brackets, in linear time.

The language is A1111's (docs/compatibility/prompts.md). A pair of brackets is a switch, a cycle or a weight only if
all that is inside is complete; otherwise its characters are literal, and so are those of all brackets around it. Where
a bare `|`, or a backslash with nothing to escape, is left over, A1111 gives up on the whole text: it is literal from
end to end. Where literal brackets stand beside complete ones, A1111's own result changes from run to run (its grammar
is ambiguous); here what is complete always counts.
"""

from __future__ import annotations

import re
from itertools import pairwise

from atelier.prompt.text import MAX_DEPTH, Warn, runs_joined, silent
from atelier.prompt.tree import Cycle, Node, Switch, Text, Tree, When

_TOKEN = re.compile(r"(?:[^\\\[\]():|]++|\\.)++|[\[\]():|\\]")
_NUMBER = re.compile(r"\s*+[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+\s*+")


def parse_tree(text: str, warn: Warn = silent) -> Tree:
    """The text as a tree; what cannot be read is literal text. Never raises, linear time.

    Switches and cycles nested deeper than MAX_DEPTH make the whole text literal, with a warning.
    """
    try:
        return _Parser().parse(text)
    except _Literal as literal:
        if literal.reason:
            warn(literal.reason)
        return (Text(text),) if text else ()


class _Literal(Exception):
    """Nothing in the text has a meaning in time."""

    def __init__(self, reason: str = "") -> None:
        self.reason = reason


class _Open:
    """An open bracket: where it is among the items, where its separators begin among all, what these are, how deep it
    nests."""

    __slots__ = ("at", "depth", "separators", "signs")

    def __init__(self, at: int, separators: int) -> None:
        self.at = at
        self.separators = separators
        self.signs = ""
        self.depth = 0


class _Parser:
    """items: what was read so far, text as str, finished switches and cycles as nodes; separators: where among them the
    : and | directly inside the open brackets are, those of the innermost last."""

    def __init__(self) -> None:
        self.items: list[str | Node] = []
        self.separators: list[int] = []
        self.open: list[_Open] = []

    def parse(self, text: str) -> Tree:
        for found in _TOKEN.finditer(text):
            token = found.group()
            if token in "[(":
                self.open.append(_Open(len(self.items), len(self.separators)))
                self.items.append(token)
            elif token in ":|":
                self._separate(token)
            elif token in ")]":
                self._close(token)
            elif token == "\\":
                raise _Literal
            else:
                self.items.append(token)
        self._give_up_open()
        return _tree(self.items)

    def _separate(self, token: str) -> None:
        if self.open:
            self.separators.append(len(self.items))
            self.open[-1].signs += token
        elif token == "|":
            raise _Literal
        self.items.append(token)

    def _close(self, token: str) -> None:
        inner = self.open[-1] if self.open else None
        if inner is None or self.items[inner.at] != ("(" if token == ")" else "["):
            self._close_nothing(token)
            return
        signs = inner.signs
        if not signs or (signs == ":" and token == ")"):
            self._leave(inner)
            self.items.append(token)
        elif token == "]" and not signs.strip("|"):
            self._close_cycle(inner)
        elif token == "]" and signs in (":", "::"):
            self._close_switch(inner)
        else:
            self._close_nothing(token)

    def _close_nothing(self, token: str) -> None:
        if self.open:
            self._give_up_open()
        self.items.append(token)

    def _close_cycle(self, inner: _Open) -> None:
        edges = [inner.at, *self.separators[inner.separators :], len(self.items)]
        options = tuple(_tree(self.items[a + 1 : b]) for a, b in pairwise(edges))
        self._replace(inner, Cycle(options))

    def _close_switch(self, inner: _Open) -> None:
        when = _number(self.items[self.separators[-1] + 1 :])
        if when is None:
            self._close_nothing("]")
            return
        edges = [inner.at, *self.separators[inner.separators :]]
        *before, after = (_tree(self.items[a + 1 : b]) for a, b in pairwise(edges))
        self._replace(inner, Switch(before[0] if before else None, after, When(when)))

    def _replace(self, inner: _Open, node: Node) -> None:
        inner.depth += 1
        if inner.depth > MAX_DEPTH:
            raise _Literal(f"brackets are nested more than {MAX_DEPTH} deep: the prompt is read as plain text")
        self._leave(inner)
        self.items[inner.at :] = [node]

    def _leave(self, inner: _Open) -> None:
        self.open.pop()
        del self.separators[inner.separators :]
        if self.open:
            self.open[-1].depth = max(self.open[-1].depth, inner.depth)

    def _give_up_open(self) -> None:
        """Makes every open bracket literal: one that is incomplete inside cannot be part of anything."""
        if any(self.items[at] == "|" for at in self.separators):
            raise _Literal
        self.open.clear()
        self.separators.clear()


def _number(items: list[str | Node]) -> str | None:
    texts = [i for i in items if isinstance(i, str)]
    text = "".join(texts)
    return text if _NUMBER.fullmatch(text) and len(texts) == len(items) else None


def _tree(items: list[str | Node]) -> Tree:
    return tuple(Text(item) if isinstance(item, str) else item for item in runs_joined(items))
