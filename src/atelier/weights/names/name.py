"""One tensor's three names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Layout = Literal["ldm", "diffusers"]


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A weight that mixes channels, (out, in): a linear layer has 2 dimensions, a 1x1 convolution 4.

    The numbers say how many each side keeps. Either is accepted on reading, since converted files mix them.
    """

    ours: int
    ldm: int
    diffusers: int

    def dimensions(self, layout: Layout) -> int:
        return self.ldm if layout == "ldm" else self.diffusers


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a tensor that one layout keeps in one piece, such as the query, key and value of an attention.

    start, count: the rows that are ours; total: all rows of the stored tensor. fused: the layouts that keep them
    together, under one name; in the others the tensor stands alone, under a name of its own.
    """

    start: int
    count: int
    total: int
    fused: frozenset[Layout]


@dataclass(frozen=True, slots=True)
class Transposed:
    """A matrix that some layouts keep as (in, out), where a linear layer has (out, in)."""

    layouts: frozenset[Layout]


@dataclass(frozen=True, slots=True)
class Halves:
    """Two halves of the rows, which some layouts keep in the other order."""

    swapped: frozenset[Layout]


@dataclass(frozen=True, slots=True)
class Identity:
    """A square matrix that changes nothing, of so many rows, which some layouts leave out."""

    size: int
    absent: frozenset[Layout]


Rule = Pointwise | Rows | Transposed | Halves | Identity


@dataclass(frozen=True, slots=True)
class Name:
    """ours: parameter of our module; ldm, diffusers: the published names, without the prefix of the part.

    rule: how the tensor is rearranged between them (None: not at all); also: older spellings accepted on reading. Names
    that are rows of one stored tensor share its stored name.
    """

    ours: str
    ldm: str
    diffusers: str
    rule: Rule | None = None
    also: tuple[str, ...] = ()

    def stored(self, layout: Layout) -> str:
        """The name that is written in `layout`."""
        return self.ldm if layout == "ldm" else self.diffusers

    def is_transposed(self, layout: Layout) -> bool:
        """Whether `layout` keeps rows as columns."""
        return isinstance(self.rule, Transposed) and layout in self.rule.layouts

    def is_swapped(self, layout: Layout) -> bool:
        """Whether `layout` keeps the second half of the rows first."""
        return isinstance(self.rule, Halves) and layout in self.rule.swapped

    def is_absent(self, layout: Layout) -> bool:
        """Whether `layout` leaves the tensor out, since it says nothing."""
        return isinstance(self.rule, Identity) and layout in self.rule.absent

    def rows(self, layout: Layout) -> Rows | None:
        """Which rows of the stored tensor are ours; None where that is all of it."""
        return self.rule if isinstance(self.rule, Rows) and layout in self.rule.fused else None

    def spellings(self, layout: Layout) -> tuple[str, ...]:
        """The names that are read in `layout`, the usual one first."""
        return (self.stored(layout), *self.also)


def both(ours: str, ldm: str, diffusers: str, *, rule: Rule | None = None) -> Iterator[Name]:
    """The weight and the bias of one layer; `rule` is the weight's."""
    yield weight(ours, ldm, diffusers, rule=rule)
    yield Name(f"{ours}.bias", f"{ldm}.bias", f"{diffusers}.bias")


def weight(ours: str, ldm: str, diffusers: str, *, rule: Rule | None = None) -> Name:
    """The weight of a layer without bias."""
    return Name(f"{ours}.weight", f"{ldm}.weight", f"{diffusers}.weight", rule)
