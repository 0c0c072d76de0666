"""Named points at which tests let a process die or a disk refuse; outside of tests nothing happens at them."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final

from atelier.errors import BadInput

KILL: Final = "kill"
_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}
ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the n-th passage (1-based) of a point, or of all points together for ANY.

    action: "kill" ends the process as kill -9 does, "enospc" and "eio" raise that OSError.
    """

    point: str
    passage: int
    action: str

    @classmethod
    def parsed(cls, text: str) -> Fault:
        """From POINT:N:ACTION, as an environment variable has it. Raises BadInput."""
        point, _, rest = text.partition(":")
        number, _, action = rest.partition(":")
        if not number.isdecimal() or action not in {KILL, *_ERRORS}:
            raise BadInput(f"{text!r} is no fault: write POINT:N:kill, POINT:N:enospc or POINT:N:eio")
        return cls(point, int(number), action)


class Faults:
    """Counts how often each point was passed, and does what was planned for it."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.passed: Counter[str] = Counter()
        self._fault = fault
        self._lock = threading.Lock()

    def at(self, point: str, *, may_fail: bool = True) -> None:
        """To be called where something could go wrong. may_fail: False where no error is possible any more, but the
        process can still die."""
        if self._fault is None:
            return
        with self._lock:
            if not may_fail and self._fault.action != KILL:
                return
            self.passed[point] += 1
            reached = self.passed.total() if self._fault.point == ANY else self.passed[self._fault.point]
            due = self._fault.point in {ANY, point} and reached == self._fault.passage
        if due:
            _happen(self._fault.action)


def _happen(action: str) -> None:
    if action == KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    code = _ERRORS[action]
    raise OSError(code, os.strerror(code))


NO_FAULTS = Faults()
