"""Chunks: a prompt of any length as pieces of 75 tokens, each between a start and an end mark.

A chunk that is full may give everything after its last comma to the next one. BREAK ends a chunk. The rules are
A1111's (docs/compatibility/prompts.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from atelier.errors import BadInput
from atelier.prompt.attention import Weighted
from atelier.prompt.inversion import NO_INVERSIONS, Inversion, Inversions, Tokenize
from atelier.prompt.text import MAX_TOKENS

BACKTRACK = 20
"""A chunk gives away at most this many tokens after its last comma; 0: none ever."""
SHOWN = 40
"""Characters by which a prompt that is too long is told from the others of a request."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Token ids of an encoder: start, None where it has none; end, what pads behind the end, the comma; and how many
    tokens fit in between."""

    start: int | None = 49406
    end: int = 49407
    pad: int = 49407
    comma: int = 267
    length: int = 75


CLIP_L = Marks()
CLIP_G = Marks(pad=0)


@dataclass(frozen=True, slots=True)
class Patch:
    """Vectors `first` to `first + count` of inversion `name` take the places from `at` on (0 is the start mark)."""

    at: int
    name: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """length + 2 token ids with a weight each; `used` of them are the prompt's own."""

    tokens: tuple[int, ...]
    weights: tuple[float, ...]
    patches: tuple[Patch, ...]
    used: int


@dataclass(frozen=True, slots=True)
class Chunks:
    """A text in chunks, at least one; `count` is the number of tokens as A1111's counter shows it."""

    chunks: tuple[Chunk, ...]
    count: int

    @property
    def room(self) -> int:
        """The places in all chunks: what the counter shows behind the stroke."""
        return sum(len(chunk.tokens) - 2 for chunk in self.chunks)


def chunk(
    items: Iterable[Weighted],
    tokenize: Tokenize,
    marks: Marks = CLIP_L,
    inversions: Inversions = NO_INVERSIONS,
    backtrack: int = BACKTRACK,
) -> Chunks:
    """The items in chunks. Each item is tokenized by itself, so that no token reaches across a change of weight.

    An inversion that does not fit into the rest of a chunk starts the next one; one of more than `length` vectors goes
    on in the chunks after that (A1111 fails on it). Raises BadInput beyond MAX_TOKENS tokens.
    """
    items = list(items)
    writer = _Writer(marks, backtrack, items[0].text[:SHOWN] if items else "")
    for item in items:
        if item.is_break:
            writer.finish()
        else:
            _write(writer, tokenize(item.text), item.weight, inversions)
    return writer.done()


def empty_chunk(marks: Marks = CLIP_L) -> Chunk:
    """The chunk of the empty prompt."""
    return _chunk([], marks)


def padded(chunks: Sequence[Chunk], count: int, marks: Marks = CLIP_L) -> tuple[Chunk, ...]:
    """The chunks, and empty ones behind them until there are `count`."""
    return (*chunks, *(empty_chunk(marks) for _ in range(count - len(chunks))))


@dataclass(frozen=True, slots=True)
class _Place:
    """One place in a chunk: a token, or vector `vector` of an inversion (its token is then 0)."""

    token: int
    weight: float
    inversion: Inversion | None = None
    vector: int = 0


class _Writer:
    """The chunk being filled, its last comma, and the finished chunks."""

    def __init__(self, marks: Marks, backtrack: int, opening: str) -> None:
        self.marks = marks
        self.opening = opening
        self.backtrack = backtrack
        self.places: list[_Place] = []
        self.comma = -1
        self.finished: list[Chunk] = []

    @property
    def is_full(self) -> bool:
        return len(self.places) == self.marks.length

    def put(self, place: _Place) -> None:
        """Adds a place, in the next chunk if this one is full."""
        if self.is_full:
            self.finish()
        self.places.append(place)

    def token(self, token: int) -> None:
        """What the next token does to the chunk before it is read: a comma is remembered, another may have no room."""
        if token == self.marks.comma:
            self.comma = len(self.places)
        elif self.is_full and self.comma >= 0 and len(self.places) - self.comma <= self.backtrack:
            moved = self.places[self.comma + 1 :]
            del self.places[self.comma + 1 :]
            self.finish()
            self.places = moved
        if self.is_full:
            self.finish()

    def inversion(self, inversion: Inversion, weight: float) -> None:
        """Adds all its vectors, in a new chunk if they do not fit here."""
        if len(self.places) + inversion.vectors > self.marks.length and self.places:
            self.finish()
        for vector in range(inversion.vectors):
            self.put(_Place(0, weight, inversion, vector))

    def finish(self) -> None:
        """Ends the chunk."""
        self.finished.append(_chunk(self.places, self.marks))
        if len(self.finished) * self.marks.length > MAX_TOKENS + self.marks.length:
            raise self._too_long(f"more than {MAX_TOKENS:,}")
        self.places = []
        self.comma = -1

    def _too_long(self, count: str) -> BadInput:
        problem = f"prompt has {count} tokens: the limit is {MAX_TOKENS:,}"
        return BadInput(f"{problem}, shorten the one that begins with {self.opening!r}")

    def done(self) -> Chunks:
        """Everything; the count adds whole chunks, and of the last one what it holds."""
        count = len(self.finished) * self.marks.length + len(self.places)
        if count > MAX_TOKENS:
            raise self._too_long(f"{count:,}")
        if not self.places and self.finished:
            return Chunks(tuple(self.finished), count)
        self.finish()
        return Chunks(tuple(self.finished), count)


def _write(writer: _Writer, tokens: Sequence[int], weight: float, inversions: Inversions) -> None:
    at = 0
    while at < len(tokens):
        writer.token(tokens[at])
        found = inversions.find(tokens, at)
        if found is None:
            writer.put(_Place(tokens[at], weight))
            at += 1
        else:
            writer.inversion(found[0], weight)
            at += found[1]


def _chunk(places: Sequence[_Place], marks: Marks) -> Chunk:
    missing = marks.length - len(places)
    start = [] if marks.start is None else [marks.start]
    tokens = [*start, *(p.token for p in places), *[marks.end] * (missing + 1)]
    if marks.pad != marks.end:
        first = tokens.index(marks.end) + 1
        tokens[first:] = [marks.pad] * (len(tokens) - first)
    weights = (*[1.0] * len(start), *(p.weight for p in places), *[1.0] * (missing + 1))
    return Chunk(tuple(tokens), weights, _patches(places, len(start)), len(places))


def _patches(places: Sequence[_Place], first: int) -> tuple[Patch, ...]:
    patches: list[Patch] = []
    for at, place in enumerate(places, start=first):
        if place.inversion is None:
            continue
        if patches and place.vector and patches[-1].first + patches[-1].count == place.vector:
            patches[-1] = replace(patches[-1], count=patches[-1].count + 1)
        else:
            patches.append(Patch(at, place.inversion.name, place.vector, 1))
    return tuple(patches)
