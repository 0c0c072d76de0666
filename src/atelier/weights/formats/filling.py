"""Tensors filled from a file: read, cast and laid out piece by piece, by as many threads as torch computes with.

One thread that reads and casts leaves the other cores idle: torch divides only what is larger than a piece may be to
stay in the processor's cache. So each thread opens the file for itself, takes the next stretch of it, and does all that
is to be done to that. The system and torch leave Python's lock meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from atelier.weights.formats.room import claim
from atelier.weights.formats.stamps import Stamp, check_unchanged, opened, shrank

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GRAIN = 2**15
"""Numbers that torch changes on the thread that asks for it. More would be divided among threads of its own, and wait
for each of them longer than the work takes."""
PIECE = 2**17
"""Numbers that are read at a time: few enough to stay in the processor's cache until they are cast."""
STRETCH = 2**21
"""Numbers that a thread takes at a time."""
WORTH_A_THREAD = 2**24
"""Numbers for each thread beside the first: fewer are there before it has started."""
MOST_THREADS = 4
"""More would wait for the memory and for Python's lock."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of a tensor that is to be filled. rows: (N, …), its numbers in the order of the file, however they lie in
    memory; stored: their dtype in the file; start: where they begin there, in bytes."""

    rows: Tensor
    stored: torch.dtype
    start: int


def stretches(rows: Tensor, stored: torch.dtype, start: int) -> Iterator[Stretch]:
    """A tensor of at least one dimension and one number as the stretches that threads take."""
    for part in _split(rows, _rows_of(STRETCH, rows)):
        yield Stretch(part, stored, start)
        start += part.numel() * stored.itemsize


def fill(path: Path, stamp: Stamp, parts: Iterable[Stretch]) -> None:
    """Fills all of them, in the order of the file.

    Raises BadFile where the file is no longer the one of that stamp, or ends too early; then no thread goes on.
    """
    import torch

    waiting = deque(sorted(parts, key=lambda part: part.start))
    if not waiting:
        return
    inference = torch.is_inference_mode_enabled()

    def work() -> None:
        try:
            with opened(path) as file, torch.inference_mode(inference):
                check_unchanged(path, file, stamp)
                filler = Filler(path, file)
                for part in _taken(waiting):
                    filler.fill(part)
        except BaseException:
            waiting.clear()
            raise

    _in_threads(work, _threads(sum(part.rows.numel() for part in waiting)))


def _in_threads(work: Callable[[], None], count: int) -> None:
    """The same work in this thread and in `count` - 1 others. Raises what any of them raises."""
    if count == 1:
        work()
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(count - 1) as pool:
        others = [pool.submit(work) for _ in range(count - 1)]
        work()
    for other in others:
        other.result()


def _threads(numbers: int) -> int:
    import torch

    return min(torch.get_num_threads(), MOST_THREADS, 1 + numbers // WORTH_A_THREAD)


def _taken(waiting: deque[Stretch]) -> Iterator[Stretch]:
    """One after the other, as long as there are any; other threads take from the same ones."""
    while True:
        try:
            part = waiting.popleft()
        except IndexError:
            return
        yield part


def _rows_of(numbers: int, rows: Tensor) -> int:
    """How many rows are about so many numbers; at least one."""
    return max(1, numbers * len(rows) // rows.numel())


class Filler:
    """One thread's file, and its memory for what is on the way."""

    def __init__(self, path: Path, file: FileIO) -> None:
        import torch

        self._path, self._file = path, file
        self._grain = GRAIN if torch.get_num_threads() > 1 else PIECE
        self._scratch = torch.empty(PIECE, dtype=torch.uint8)
        self._memory = _bytes(self._scratch)
        self._wide = torch.empty(self._grain, dtype=torch.float32)
        self._narrow = torch.empty(0)

    def fill(self, part: Stretch) -> None:
        """Raises BadFile."""
        claim(part.rows)
        self._file.seek(part.start)
        if not part.rows.is_contiguous():
            self._rearrange(part)
        elif part.rows.dtype == part.stored:
            self._read(_bytes(part.rows.view(-1)))
        else:
            for piece in _split(part.rows.view(-1), PIECE):
                self._cast(self._next(len(piece), part.stored), piece)

    def _rearrange(self, part: Stretch) -> None:
        """Casts first: torch takes half as long again where it casts and rearranges in one go."""
        for rows in _split(part.rows, _rows_of(PIECE, part.rows)):
            found = self._next(rows.numel(), part.stored)
            if found.dtype != rows.dtype:
                narrow = self._narrowed(len(found), rows.dtype)
                self._cast(found, narrow)
                found = narrow
            few = _rows_of(self._grain, rows)
            for source, target in zip(_split(found.view(rows.shape), few), _split(rows, few), strict=True):
                target.copy_(source)

    def _cast(self, found: Tensor, into: Tensor) -> None:
        """Between two short precisions through float32: no processor casts these in one go, and torch then takes four
        times as long. The numbers are the same, since float32 holds those of both."""
        through = into.dtype.itemsize <= 2 and found.dtype.itemsize <= 2 and found.is_floating_point()
        for start in range(0, len(found), self._grain):
            source, target = found[start : start + self._grain], into[start : start + self._grain]
            target.copy_(self._wide[: len(source)].copy_(source) if through else source)

    def _next(self, count: int, dtype: torch.dtype) -> Tensor:
        """The next numbers of the file. They are there until the next ones are asked for."""
        import torch

        size = count * dtype.itemsize
        if len(self._memory) < size:
            self._scratch = torch.empty(size, dtype=torch.uint8)
            self._memory = _bytes(self._scratch)
        self._read(self._memory[:size])
        return self._scratch[:size].view(dtype)

    def _narrowed(self, count: int, dtype: torch.dtype) -> Tensor:
        import torch

        if len(self._narrow) < count or self._narrow.dtype != dtype:
            self._narrow = torch.empty(count, dtype=dtype)
        return self._narrow[:count]

    def _read(self, view: memoryview) -> None:
        """Fills memory with what follows in the file."""
        done = 0
        while done < len(view):
            count = self._file.readinto(view[done:])
            if not count:
                raise shrank(self._path)
            done += count


def _split(tensor: Tensor, rows: int) -> tuple[Tensor, ...]:
    """Parts of so many rows; the last may have fewer."""
    return cast("tuple[Tensor, ...]", tensor.split(rows))


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a tensor of one dimension."""
    import torch

    return memoryview(cast("Any", tensor.view(torch.uint8).numpy()))
