"""Textual inversions in prompts: their names are found in the token ids, wherever the same tokens run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Tokenize = Callable[[str], list[int]]
"""Text to token ids, without start and end marks and without truncation."""


@dataclass(frozen=True, slots=True)
class Inversion:
    """A name that stands for `vectors` learned vectors."""

    name: str
    vectors: int


@dataclass(frozen=True, slots=True)
class Inversions:
    """Inversions by the first token of their names, those with the longest names first."""

    by_first: Mapping[int, tuple[tuple[tuple[int, ...], Inversion], ...]] = field(
        default_factory=dict[int, tuple[tuple[tuple[int, ...], Inversion], ...]]
    )

    def find(self, tokens: Sequence[int], at: int) -> tuple[Inversion, int] | None:
        """The inversion whose name starts at token `at`, and how many tokens its name has."""
        for ids, inversion in self.by_first.get(tokens[at], ()):
            if tuple(tokens[at : at + len(ids)]) == ids:
                return inversion, len(ids)
        return None


NO_INVERSIONS = Inversions()


def inversions(known: Mapping[str, int], tokenize: Tokenize) -> Inversions:
    """A lookup for `known`: name to number of vectors. Names without tokens, and of no vectors, are left out."""
    found: defaultdict[int, list[tuple[tuple[int, ...], Inversion]]] = defaultdict(list)
    for name, vectors in known.items():
        ids = tuple(tokenize(name))
        if ids and vectors > 0:
            found[ids[0]].append((ids, Inversion(name, vectors)))
    return Inversions({first: tuple(sorted(e, key=lambda e: -len(e[0]))) for first, e in found.items()})
