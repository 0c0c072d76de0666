"""How long to wait before a process that died is started again."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

FIRST, LAST = 0.25, 30.0
"""Seconds: after the first death, and at most."""
LONG = 60.0
"""A process that lived for so many seconds did not die of how it was started."""


async def rest(seconds: float, end: asyncio.Event) -> None:
    """Waits so long, or until the end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await end.wait()


@dataclass(slots=True)
class Backoff:
    """The pauses double from death to death, until a process lives long or gets something done."""

    pause: float = FIRST
    since: float = 0.0

    def started(self) -> None:
        self.since = time.monotonic()

    def worked(self) -> None:
        """Something got done: the next death is a first one."""
        self.pause = FIRST

    def died(self) -> float:
        """The pause before the next start, in seconds."""
        if time.monotonic() - self.since >= LONG:
            self.worked()
        pause, self.pause = self.pause, min(2 * self.pause, LAST)
        return pause
