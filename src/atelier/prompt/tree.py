"""What a prompt says about time, as a frozen tree: texts, switches [from:to:when] and cycles [a|b].

Brackets that only weigh are part of the text. Printing a tree gives back, character by character, what was parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """What is always there. Escapes and weights are still in it."""

    text: str


@dataclass(frozen=True, slots=True)
class When:
    """A moment as it was written, space around it too: a whole number is a step, one with a point is a fraction."""

    text: str

    @property
    def value(self) -> float:
        """The number; may be infinite."""
        return float(self.text)

    @property
    def is_fraction(self) -> bool:
        """Whether it was written with a point."""
        return "." in self.text


@dataclass(frozen=True, slots=True)
class Switch:
    """`[before:after:when]`; without `before`, `[after:when]`, which adds (None is written so, and acts as empty)."""

    before: Tree | None
    after: Tree
    when: When


@dataclass(frozen=True, slots=True)
class Cycle:
    """`[a|b|c]`: another option at every step; two or more."""

    options: tuple[Tree, ...]


Node: TypeAlias = "Text | Switch | Cycle"
Tree: TypeAlias = "tuple[Node, ...]"


def print_tree(tree: Tree) -> str:
    """The text of a tree: the inverse of parse_tree."""
    return "".join(map(_printed, tree))


def _printed(node: Node) -> str:
    match node:
        case Text(text):
            return text
        case Switch(before, after, when):
            first = "" if before is None else print_tree(before) + ":"
            return f"[{first}{print_tree(after)}:{when.text}]"
        case Cycle(options):
            return f"[{'|'.join(map(print_tree, options))}]"
