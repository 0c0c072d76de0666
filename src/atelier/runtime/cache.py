"""Parts of models in memory: leased while they are used, kept within a budget of bytes while they are not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from atelier.pipeline.resources import Merged
from atelier.request.resolved import ModelRef

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NetRef(Generic[T]):
    """What tells one network in memory from another.

    model: the files, by the hash of their weights; part: which network of them; adapters: what is merged into it, in
    order; dtype: of its weights; backend: what executes it.
    """

    # No request can ask for another backend yet. It is in the key so that the first that does never gets, or leaves
    # behind, a network that others take for the plain one.

    model: ModelRef
    part: str
    dtype: str
    adapters: tuple[Merged, ...] = ()
    backend: str = "eager"


@dataclass(slots=True)
class _Entry:
    """A network that is there, or being loaded. lock: held while it is loaded; used: when, on the cache's own clock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    value: object = None
    is_loaded: bool = False
    size: int = 0
    users: int = 0
    used: int = 0


class ModelCache:
    """Threads may share one. A network is loaded once however many ask for it, and loading one keeps nobody from
    another. Whatever is leased stays; of the rest the least recently used goes first where all are more than `budget`
    bytes together."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._entries: dict[NetRef[object], _Entry] = {}
        self._clock = 0
        self._lock = threading.Lock()

    @contextmanager
    def lease(self, ref: NetRef[T], load: Callable[[], T], size: Callable[[T], int]) -> Generator[T]:
        """The network of `ref`, loaded now if it is not there; it stays until the context ends.

        size: bytes that it takes. Raises what `load` raises; then nothing of it is kept, and the next one tries again.
        """
        key = cast("NetRef[object]", ref)
        entry = self._enter(key)
        try:
            with entry.lock:
                if not entry.is_loaded:
                    value = load()
                    entry.value, entry.size, entry.is_loaded = value, size(value), True
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

    def clear(self) -> None:
        """Forgets all that nobody uses."""
        with self._lock:
            for key in [key for key, entry in self._entries.items() if not entry.users]:
                self._entries.pop(key)

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
            total = sum(entry.size for entry in self._entries.values())
            idle = sorted((k for k, e in self._entries.items() if not e.users), key=lambda k: self._entries[k].used)
            for key in idle:
                if total <= self.budget:
                    return
                total -= self._entries.pop(key).size
