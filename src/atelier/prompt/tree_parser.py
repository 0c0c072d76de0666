r"""The parser of trees: one pass over the text with a stack of open brackets, in linear time.

The language is A1111's (reference: webui.md 1.5). A pair of brackets is a switch, a cycle or a weight only if all that
is inside is complete; otherwise its characters are literal, and so are those of all brackets around it. Where a bare
`|`, or a backslash with nothing to escape, is left over, A1111 gives up on the whole text: it is literal from end to
end. Where literal brackets stand beside complete ones, A1111's own result changes from run to run (its grammar is
ambiguous); here what is complete always counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from atelier.prompt.text import MAX_DEPTH, Warn, silent
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


@dataclass(slots=True)
class _Open:
    """An open bracket: where it and the separators directly inside it are among the items read so far."""

    bracket: str
    at: int
    colons: list[int] = field(default_factory=list[int])
    pipes: list[int] = field(default_factory=list[int])


class _Parser:
    """items: what was read so far, text as str, finished switches and cycles as nodes; depths: how deep each nests."""

    def __init__(self) -> None:
        self.items: list[str | Node] = []
        self.depths: list[int] = []
        self.open: list[_Open] = []

    def parse(self, text: str) -> Tree:
        for found in _TOKEN.finditer(text):
            self._read(found.group())
        self._give_up_open()
        return _tree(self.items)

    def _read(self, token: str) -> None:
        match token:
            case "[" | "(":
                self.open.append(_Open(token, len(self.items)))
                self._put(token)
            case ":" | "|":
                self._separate(token)
            case "]":
                self._close_square()
            case ")":
                self._close_round()
            case "\\":
                raise _Literal
            case _:
                self._put(token)

    def _put(self, item: str | Node, depth: int = 0) -> None:
        self.items.append(item)
        self.depths.append(depth)

    def _separate(self, token: str) -> None:
        if self.open:
            inner = self.open[-1]
            (inner.colons if token == ":" else inner.pipes).append(len(self.items))
        elif token == "|":
            raise _Literal
        self._put(token)

    def _close_round(self) -> None:
        inner = self.open[-1] if self.open else None
        if inner and inner.bracket == "(" and len(inner.colons) <= 1 and not inner.pipes:
            self.open.pop()
        else:
            self._give_up_open()
        self._put(")")

    def _close_square(self) -> None:
        inner = self.open[-1] if self.open else None
        if inner is None or inner.bracket == "(" or (inner.colons and inner.pipes):
            self._give_up_open()
            self._put("]")
        elif inner.pipes:
            self._close_cycle(self.open.pop())
        elif inner.colons:
            self._close_switch(inner)
        else:
            self.open.pop()
            self._put("]")

    def _close_cycle(self, inner: _Open) -> None:
        edges = [inner.at, *inner.pipes, len(self.items)]
        options = tuple(_tree(self.items[a + 1 : b]) for a, b in pairwise(edges))
        self._replace(inner.at, Cycle(options))

    def _close_switch(self, inner: _Open) -> None:
        when = _number(self.items[inner.colons[-1] + 1 :])
        if when is None or len(inner.colons) > 2:
            self._give_up_open()
            self._put("]")
            return
        self.open.pop()
        edges = [inner.at, *inner.colons]
        *before, after = (_tree(self.items[a + 1 : b]) for a, b in pairwise(edges))
        self._replace(inner.at, Switch(before[0] if before else None, after, When(when)))

    def _replace(self, at: int, node: Node) -> None:
        depth = 1 + max(self.depths[at:])
        if depth > MAX_DEPTH:
            raise _Literal(f"brackets are nested more than {MAX_DEPTH} deep: the prompt is read as plain text")
        del self.items[at:], self.depths[at:]
        self._put(node, depth)

    def _give_up_open(self) -> None:
        """Makes every open bracket literal: one that is incomplete inside cannot be part of anything."""
        if any(bracket.pipes for bracket in self.open):
            raise _Literal
        self.open.clear()


def _number(items: list[str | Node]) -> str | None:
    text = "".join(i for i in items if isinstance(i, str))
    return text if _NUMBER.fullmatch(text) and all(isinstance(i, str) for i in items) else None


def _tree(items: list[str | Node]) -> Tree:
    nodes: list[Node] = []
    for is_text, run in groupby(items, key=lambda item: isinstance(item, str)):
        if is_text:
            nodes.append(Text("".join(item for item in run if isinstance(item, str))))
        else:
            nodes += [item for item in run if not isinstance(item, str)]
    return tuple(nodes)
