"""Batches made ahead of time by worker processes, handed out in order, the same whatever the number of workers."""

from __future__ import annotations

import contextlib
import queue
import signal
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing import get_context, parent_process
from multiprocessing.context import SpawnProcess
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Generic, TypeVar, cast

from atelier.errors import AtelierError

T = TypeVar("T")
Answer = tuple[object, Exception | None]

PATIENCE = 0.5
"""Seconds between two looks at whether to stop, or whether the other process still lives."""


class Prefetch(AbstractContextManager["Prefetch[T]"], Generic[T]):
    """`make(i)` for i = first, first + 1, ..., computed by `workers` processes at most `ahead` items each in advance.

    `make` is picklable and pure. With workers = 0 items are made in the caller's process. An exception in a worker is
    raised here, at the item it belongs to. Signals to the whole process group are left to the caller: workers end with
    it, or at the end of the block.
    """

    def __init__(self, make: Callable[[int], T], first: int, workers: int, ahead: int = 4) -> None:
        self._make, self._first, self._next = make, first, first
        self._queues: list[Queue[Answer]] = []
        self._processes: list[SpawnProcess] = []
        context = get_context("spawn")
        self._ending = context.Event()
        for worker in range(workers):
            ready: Queue[Answer] = context.Queue(ahead)
            arguments = (make, first + worker, workers, ready, self._ending)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            self._queues.append(ready)
            self._processes.append(process)

    def take(self, stop: Callable[[], bool] = lambda: False) -> T | None:
        """The next item, or None once `stop` says so while it is not ready. Raises what making it raised."""
        index = self._next
        if not self._queues:
            self._next += 1
            return self._make(index)
        answer = self._wait((index - self._first) % len(self._queues), stop)
        if answer is None:
            return None
        self._next += 1
        item, error = answer
        if error is not None:
            raise error
        return cast("T", item)

    def _wait(self, turn: int, stop: Callable[[], bool]) -> Answer | None:
        while True:
            alive = self._processes[turn].is_alive()
            try:
                return self._queues[turn].get(timeout=PATIENCE)
            except queue.Empty:
                if stop():
                    return None
                if not alive:
                    code = self._processes[turn].exitcode
                    raise AtelierError(
                        f"the data worker making batch {self._next} ended with code {code}; if memory ran out, go on "
                        "with fewer run.workers"
                    ) from None

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(timeout=10)
            process.kill()
            process.join()
        for ready in self._queues:
            ready.cancel_join_thread()
            ready.close()


def _work(make: Callable[[int], object], first: int, stride: int, ready: Queue[Answer], ending: Event) -> None:
    """Runs in a worker; ends when its parent is gone, so that a killed run leaves no processes behind."""
    ready.cancel_join_thread()
    _leave_signals_to_parent(ending)
    index = first
    while _delivered(ready, _made(make, index)):
        index += stride


def _leave_signals_to_parent(ending: Event) -> None:
    """SIGTERM counts only from the parent, which says first that it is ending: a file being written is then removed."""

    def end(*_: object) -> None:
        if ending.is_set():
            raise SystemExit

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)


def _made(make: Callable[[int], object], index: int) -> Answer:
    try:
        return make(index), None
    except AtelierError as error:
        return None, error
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
        told = RuntimeError(f"making batch {index}: {type(error).__name__}: {error}")
        told.add_note(traceback.format_exc())
        return None, told


def _delivered(ready: Queue[Answer], answer: Answer) -> bool:
    parent = parent_process()
    while parent is not None and parent.is_alive():
        with contextlib.suppress(queue.Full):
            ready.put(answer, timeout=PATIENCE)
            return True
    return False
