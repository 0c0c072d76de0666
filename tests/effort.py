"""What hostile input may cost: a bound that only runaway work reaches, on the slowest machine."""

import time
from collections.abc import Generator
from contextlib import contextmanager

RUNAWAY = 20.0
"""Seconds of the processor. What is tested takes at most one; work that grows with the square of the input takes
minutes. How long it takes exactly is measured in `benchmarks/`."""


@contextmanager
def little_work() -> Generator[None]:
    """What happens within costs this process less than `RUNAWAY`, whatever else the machine does."""
    before = time.process_time()
    try:
        yield
    finally:
        assert time.process_time() - before < RUNAWAY
