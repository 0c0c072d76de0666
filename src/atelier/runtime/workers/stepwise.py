"""Work that has no steps of its own, such as writing a file of gigabytes: done in a thread, told of as it goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import TypeVar

from atelier.runtime.jobs.job import JobProgress
from atelier.runtime.workers.kind import Stopped
from atelier.weights.formats.safetensors import Tell

T = TypeVar("T")
Outcome = tuple[T | None, BaseException | None]


def stepwise(work: Callable[[Tell], T], stopping: Callable[[], bool]) -> Generator[JobProgress, None, T]:
    """Yields how far the work is, in hundredths, and returns what it returns.

    The work calls what it is given now and then. There it ends with Stopped once `stopping` says so or nobody listens
    any more, and no earlier: this waits for it. Raises what the work raises.
    """
    news: queue.Queue[JobProgress | Outcome[T]] = queue.Queue()
    left = threading.Event()

    def run() -> None:
        try:
            news.put((work(_telling(news.put, lambda: left.is_set() or stopping())), None))
        except BaseException as error:  # noqa: BLE001 - it is raised again by who listens
            news.put((None, error))

    thread = threading.Thread(target=run, name="work")
    thread.start()
    try:
        while isinstance(told := news.get(), JobProgress):
            yield told
    finally:
        left.set()
        thread.join()
    result, error = told
    if error is not None:
        raise error
    return result  # pyright: ignore[reportReturnType] - it is one where there is no error


def _telling(put: Callable[[JobProgress], None], stopping: Callable[[], bool]) -> Tell:
    """Passes each hundredth on, once. Raises Stopped."""
    before = -1

    def tell(done: int, total: int, /) -> None:
        nonlocal before
        if stopping():
            raise Stopped("told to stop")
        hundredths = 100 * done // max(1, total)
        if hundredths > before:
            before = hundredths
            put(JobProgress(hundredths, 100, share=hundredths / 100))

    return tell
