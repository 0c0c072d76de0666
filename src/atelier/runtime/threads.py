"""How a process of ours computes: its threads, its pages. For command lines and workers: a library call sets none."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

WAIT_POLICY, HUGE_PAGES = "OMP_WAIT_POLICY", "THP_MEM_ALLOC_ENABLE"
SMALL = 4e10
"""Weights of a denoiser times positions of latents in a call, up to which one thread is no slower than two that wait
passively: calls of up to about a tenth of a second (docs/adr/0020-busy-machines.md)."""


def prepare_torch(environment: MutableMapping[str, str]) -> None:
    """What torch reads once, when it is loaded, and so must be set before. Whoever has set a variable is obeyed.

    Threads that wait for each other give up their core: OpenMP's spin by default. Beside other busy processes each
    barrier then waits for a thread that has no core, while the spinning ones take the cores from it: an image of one
    second takes a minute.

    Large tensors lie in huge pages, where the system gives these to who asks: each new page of 4 KiB costs about a
    microsecond, which is a seventh of a U-Net's time (docs/adr/0049-huge-pages.md).
    """
    environment.setdefault(WAIT_POLICY, "passive")
    environment.setdefault(HUGE_PAGES, "1")


def use_granted_cores(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> None:
    """Lowers torch's threads to the cores that a container was granted; torch sees only those of the machine."""
    import torch

    granted = _quota(cpu_max)
    if granted is not None and granted < torch.get_num_threads():
        torch.set_num_threads(granted)


def use_free_cores(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max"), load: Path = Path("/proc/loadavg")) -> None:
    """Lowers torch's threads to the cores that this process was granted and that no other process is using now."""
    import torch

    threads = free_cores(os.cpu_count() or 1, cpu_max, load)
    if threads < torch.get_num_threads():
        torch.set_num_threads(threads)


def free_cores(cores: int, cpu_max: Path, load: Path) -> int:
    """Of the machine's `cores`, those within a container's quota that no other process keeps busy; at least 1.

    The load is that of the whole machine, also inside a container.
    """
    return max(1, min(_quota(cpu_max) or cores, cores - _others_running(load)))


def _quota(cpu_max: Path) -> int | None:
    """The cores that a container was granted; None where there is no limit. torch sees only those of the machine."""
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None


def _others_running(load: Path) -> int:
    """How many threads but this one are running or waiting for a core; 0 where the system does not say."""
    try:
        running = load.read_text(encoding="ascii").split()[3].partition("/")[0]
        return max(0, int(running) - 1)
    except (OSError, ValueError, IndexError):
        return 0


def suit_threads_to(work: float, environment: Mapping[str, str]) -> None:
    """Lowers two threads to one for a network so small that waking the second one takes longer than it saves.

    work: what `Engine.work` says. More than two were not measured, and stay; so does what OMP_NUM_THREADS says.
    """
    import torch

    if work <= SMALL and torch.get_num_threads() == 2 and "OMP_NUM_THREADS" not in environment:
        torch.set_num_threads(1)


def settle_process(environment: Mapping[str, str], threads: int = 0, *, leave_busy_cores: bool = True) -> None:
    """What a program of ours does to its own process once torch is wanted: threads, and memory that goes back.

    threads: that many; 0: what OMP_NUM_THREADS says, or else the granted cores, without those that other processes keep
    busy now if `leave_busy_cores` (not for what runs for hours).
    """
    import torch

    from atelier.runtime.heap import settle_heap

    settle_heap()
    if threads:
        torch.set_num_threads(threads)
    elif "OMP_NUM_THREADS" not in environment:
        (use_free_cores if leave_busy_cores else use_granted_cores)()
