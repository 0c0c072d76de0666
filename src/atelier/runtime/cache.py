"""Parts of models in memory: leased while they are used, kept within a budget of bytes while they are not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from atelier.pipeline.resources import Merged
from atelier.request.resolved import ModelRef, NetworkRef

T = TypeVar("T")
NOTHING = -1
"""A budget that not even an entry without bytes is within."""


@dataclass(frozen=True, slots=True)
class NetRef(Generic[T]):
    """What tells one network in memory from another.

    model: the files, by the hash of their weights; part: which network of them; adapters: what is merged into it, in
    order; dtype: of its weights; file: what the part lies in where that is no file of the model's; backend: what
    executes it.
    """

    # No request can ask for another backend yet. It is in the key so that the first that does never gets, or leaves
    # behind, a network that others take for the plain one.

    model: ModelRef
    part: str
    dtype: str
    adapters: tuple[Merged, ...] = ()
    file: NetworkRef | None = None
    backend: str = "eager"


@dataclass(slots=True)
class _Entry:
    """A network that is there, or being loaded. lock: held while it is loaded; used: when, on the cache's own clock;
    base: the network whose tensors it shares, which it is a user of."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    value: object = None
    is_loaded: bool = False
    size: int = 0
    users: int = 0
    used: int = 0
    base: NetRef[object] | None = None


class ModelCache:
    """Threads may share one. A network is loaded once however many ask for it, and loading one keeps nobody from
    another. Whatever is leased stays, and so does what another shares tensors with; of the rest the least recently used
    goes first where all are more than `budget` bytes together."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._entries: dict[NetRef[object], _Entry] = {}
        self._clock = 0
        self._lock = threading.Lock()

    @contextmanager
    def lease(
        self, ref: NetRef[T], load: Callable[[], T], size: Callable[[T], int], base: NetRef[T] | None = None
    ) -> Generator[T]:
        """The network of `ref`, loaded now if it is not there; it stays until the context ends.

        size: bytes that it takes beside those of `base`, the network that it shares tensors with: that stays as long as
        it does, for its memory would not come free before. Raises what `load` raises; then nothing of it is kept, and
        the next one tries again.
        """
        key = cast("NetRef[object]", ref)
        entry = self._enter(key)
        try:
            with entry.lock:
                if not entry.is_loaded:
                    self._load(entry, load, size, cast("NetRef[object] | None", base))
            self._make_room()
            yield cast("T", entry.value)
        finally:
            self._leave(key, entry)

    def holds(self, ref: NetRef[T]) -> bool:
        """Whether a lease of `ref` would load nothing."""
        with self._lock:
            entry = self._entries.get(cast("NetRef[object]", ref))
            return entry is not None and entry.is_loaded

    def held(self) -> tuple[NetRef[object], ...]:
        """All that is in memory, the least recently used first."""
        with self._lock:
            loaded = [(entry.used, key) for key, entry in self._entries.items() if entry.is_loaded]
        return tuple(key for _, key in sorted(loaded, key=lambda item: item[0]))

    def free(self, size: int) -> None:
        """Forgets what nobody uses, the least recently used first, until so many bytes have come free or nothing is
        left to forget."""
        with self._lock:
            self._shrink(sum(entry.size for entry in self._entries.values()) - size)

    @property
    def bytes(self) -> int:
        """Of all that is in memory, what several share once."""
        with self._lock:
            return sum(entry.size for entry in self._entries.values())

    def clear(self) -> None:
        """Forgets all that nobody uses."""
        with self._lock:
            self._shrink(NOTHING)

    def _load(
        self, entry: _Entry, load: Callable[[], T], size: Callable[[T], int], base: NetRef[object] | None
    ) -> None:
        below = None if base is None else self._enter(base)
        try:
            value = load()
            entry.size = size(value)
        except BaseException:
            if base is not None and below is not None:
                self._leave(base, below)
            raise
        entry.value, entry.base, entry.is_loaded = value, base, True

    def _enter(self, key: NetRef[object]) -> _Entry:
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
            self._touch(entry)
            return entry

    def _leave(self, key: NetRef[object], entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            self._touch(entry)
            if not entry.users and not entry.is_loaded:
                self._entries.pop(key, None)
        self._make_room()

    def _touch(self, entry: _Entry) -> None:
        self._clock += 1
        entry.used = self._clock

    def _make_room(self) -> None:
        """Forgets what nobody uses, the least recently used first, until the rest is within the budget."""
        with self._lock:
            self._shrink(self.budget)

    def _shrink(self, most: int) -> None:
        total = sum(entry.size for entry in self._entries.values())
        while total > most:
            idle = [key for key, entry in self._entries.items() if not entry.users]
            if not idle:
                return
            gone = self._entries.pop(min(idle, key=lambda key: self._entries[key].used))
            total -= gone.size
            if gone.base is not None:
                self._entries[gone.base].users -= 1
