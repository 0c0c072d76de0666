"""Two clocks: one that says what time it is, and one that never jumps."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since 1970, as the machine believes; may jump either way."""
        ...

    def steady(self) -> float:
        """Seconds since some moment; only goes forward. All waiting is measured with it."""
        ...


class SystemClock:
    """The clocks of the machine."""

    def now(self) -> float:
        return time.time()

    def steady(self) -> float:
        return time.monotonic()


SYSTEM = SystemClock()
