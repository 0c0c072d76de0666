"""How much slower an image of the embedded model is beside busy processes than alone.

    scripts/accept busy [--rounds N] [--processes N] [--cores N] [--json]

Runs `atelier generate` as a process of its own, alone and beside busy loops, in turn, `--rounds` times each; both keep
to `--cores` cores where the system can do that. Prints the seconds of each run and the ratio of the medians. Nothing
else should run: it would make "alone" slower, and the ratio look better than it is. The load that was there before is
printed for that.

Exit code 0: the ratio is at most 5; 1: it is more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BOUND = 5.0
SPIN = "while True: pass"
COMMAND = ("-m", "atelier", "generate", "a red apple on a blue background", "--seed", "1", "--no-preview")
OWN = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")
"""Settings of the user's that would be measured in place of the command line's own."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="busy loops")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cores = keep_to(options.cores)
    load = os.getloadavg()[0]
    seconds: dict[str, list[float]] = {"alone": [], "beside": []}
    with tempfile.TemporaryDirectory() as folder:
        generated(Path(folder))  # reads the files once, so that both find them in memory
        for _ in range(options.rounds):
            seconds["alone"].append(generated(Path(folder)))
            with busy(options.processes):
                seconds["beside"].append(generated(Path(folder)))
    found = summary(seconds["alone"], seconds["beside"]) | {"cores": cores, "load_before": round(load, 1)}
    print(json.dumps(found) if options.json else told(found))
    return 0 if ratio(seconds["alone"], seconds["beside"]) <= BOUND else 1


def generated(folder: Path) -> float:
    """Seconds that the command line takes for one image, its start included."""
    environment = {name: value for name, value in os.environ.items() if name not in OWN}
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, *COMMAND, "--output", str(folder)], check=True, capture_output=True, env=environment
    )
    return time.perf_counter() - begun


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """That many loops that each take a core, until the context ends."""
    running = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def keep_to(cores: int) -> int:
    """Keeps this process and its children to so many cores; returns how many they have."""
    if not hasattr(os, "sched_setaffinity"):  # only Linux has it
        return os.cpu_count() or 1
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, allowed)
    return len(allowed)


def ratio(alone: Sequence[float], beside: Sequence[float]) -> float:
    """Of the medians."""
    return statistics.median(beside) / statistics.median(alone)


def summary(alone: Sequence[float], beside: Sequence[float]) -> dict[str, object]:
    return {
        "alone_seconds": [round(value, 2) for value in alone],
        "beside_seconds": [round(value, 2) for value in beside],
        "ratio": round(ratio(alone, beside), 2),
        "bound": BOUND,
    }


def told(found: dict[str, object]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in found.items())


if __name__ == "__main__":
    sys.exit(main())
