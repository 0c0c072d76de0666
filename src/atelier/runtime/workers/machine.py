"""Memory of the machine and of processes, as Linux tells it; 0 where it does not."""

from __future__ import annotations

import os
from pathlib import Path

KIB = 1024


def memory(meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """(all, available) bytes of the machine."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        return _kib(lines["MemTotal"]), _kib(lines["MemAvailable"])
    except (OSError, KeyError, ValueError):
        return 0, 0


def resident(pid: int, proc: Path = Path("/proc")) -> int:
    """Bytes of memory that a process has."""
    try:
        pages = int((proc / str(pid) / "statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _kib(text: str) -> int:
    return int(text.split(maxsplit=1)[0]) * KIB
