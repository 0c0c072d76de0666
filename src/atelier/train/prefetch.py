"""Batches made ahead of time by worker processes, handed out in order, the same whatever the number of workers."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from multiprocessing import get_context
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Prefetch(AbstractContextManager["Prefetch[T]"], Generic[T]):
    """`make(i)` for i = first, first + 1, ..., computed by `workers` processes at most `ahead` items each in advance.

    `make` is picklable and pure. With workers = 0 items are made in the caller's process. An exception in a worker is
    raised here, at the item it belongs to.
    """

    def __init__(self, make: Callable[[int], T], first: int, workers: int, ahead: int = 4) -> None:
        self._make, self._next, self._queues, self._processes = make, first, [], []
        context = get_context("spawn")
        for worker in range(workers):
            ready: Any = context.Queue(ahead)
            process = context.Process(
                target=_work, args=(make, first + worker, workers, ready, os.getpid()), daemon=True
            )
            process.start()
            self._queues.append(ready)
            self._processes.append(process)
        self._first = first

    def __iter__(self) -> Iterator[T]:
        while True:
            yield self.take()

    def take(self) -> T:
        index = self._next
        self._next += 1
        if not self._queues:
            return self._make(index)
        turn = (index - self._first) % len(self._queues)
        while True:
            try:
                item, error = self._queues[turn].get(timeout=5.0)
                break
            except queue.Empty:
                if not self._processes[turn].is_alive():
                    raise RuntimeError(f"the data worker making batch {index} died") from None
        if error is not None:
            raise error
        return item

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for ready in self._queues:
            ready.cancel_join_thread()
            ready.close()


def _work(make: Callable[[int], Any], first: int, stride: int, ready: Any, parent: int) -> None:
    """Runs in a worker; ends when its parent is gone, so a killed run leaves no processes behind."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    index = first
    while True:
        try:
            item: tuple[Any, BaseException | None] = (make(index), None)
        except Exception as error:
            item = (None, error)
        while os.getppid() == parent:
            try:
                ready.put(item, timeout=2.0)
                break
            except queue.Full:
                continue
        else:
            ready.cancel_join_thread()
            return
        index += stride
