"""What the benchmarks share: timing in interleaved pairs, children, a machine's description, one JSON object out."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each round, by contestant; round i of all contestants ran one after the other."""

    rounds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        return statistics.median(self.rounds[name])

    def ratio(self, ours: str, theirs: str) -> float:
        """The median over the rounds of ours / theirs, so that a change of the machine's speed falls on both."""
        return statistics.median(a / b for a, b in zip(self.rounds[ours], self.rounds[theirs], strict=True))


def interleaved(
    calls: Mapping[str, Call],
    rounds: int,
    *,
    warmup: int = 1,
    wait: Call = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Times every call once a round, in turning order, after `warmup` rounds that do not count.

    wait: called before each clock reading (torch.cuda.synchronize on a GPU). clock: time.process_time counts what the
    threads of this process worked, which other work on the machine changes little.
    """
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            wait()
            begun = clock()
            calls[name]()
            wait()
            if number >= 0:
                seconds[name].append(clock() - begun)
    return Timing({name: tuple(values) for name, values in seconds.items()})


def row(what: str, timing: Timing, ours: str, theirs: str, bound: float | None) -> dict[str, Any]:
    """One comparison: the medians, the median of the ratios, and the bound it must keep (None: there is none)."""
    ratio = timing.ratio(ours, theirs)
    return {
        "what": what,
        "ours_seconds": round(timing.median(ours), 4),
        "reference_seconds": round(timing.median(theirs), 4),
        "ratio": round(ratio, 3),
        "bound": bound,
        "within": None if bound is None else ratio <= bound,
        "rounds": len(timing.rounds[ours]),
    }


def machine(device: str, packages: Sequence[str] = ("torch",)) -> dict[str, Any]:
    """What the numbers were measured on."""
    described = {
        "device": device,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
    if device.startswith("cuda"):
        import torch

        described["gpu"] = torch.cuda.get_device_name(device)
    return described


def report(
    benchmark: str, device: str, rows: Sequence[Mapping[str, Any]], packages: Sequence[str], **more: Any
) -> None:
    """Prints the result as one JSON object."""
    result = {"benchmark": benchmark, "machine": machine(device, packages), **more, "results": list(rows)}
    print(json.dumps(result, indent=1))


def child(script: str, *arguments: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Runs a script in a process of its own and returns the JSON object on its last line."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **(environment or {})}
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak_memory() -> int:
    """Bytes of physical memory that this process has held at most."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def waiter(device: str) -> Call:
    """What to call before reading the clock."""
    if not device.startswith("cuda"):
        return lambda: None
    import torch

    return torch.cuda.synchronize


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
