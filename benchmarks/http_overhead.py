"""What the server costs: from the request being sent to the image being there, less what the worker generated.

    python benchmarks/http_overhead.py [--rounds N] [--json]

Asks for images through OpenAI's dialect, which answers with the image itself, one after the other, and takes the
seconds that the worker says it worked from the whole. Beside that it prints what an image costs the server and the
resolver in time of a core, less what they use in as many seconds where nobody asks anything: other programs on the
machine change that little. Exit code 0: the median is at most 30 ms; 1: it is more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from serving import Server, serving

MOST_MS = 30.0
IDLE = 5.0
"""Seconds in which nobody asks anything."""
ASKED = {"prompt": "a red apple", "size": "64x64", "steps": 4, "seed": 3, "response_format": "b64_json"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: list[float] = []
    worked: list[float] = []
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server, server.client() as client:
        before, began = cores(server), time.perf_counter()
        for number in range(options.rounds + 3):
            if number == 3:
                before, began = cores(server), time.perf_counter()
            lines = len(server.lines)
            start = time.perf_counter()
            answer = client.post("/v1/images/generations", json=ASKED)
            seconds = time.perf_counter() - start
            assert answer.status_code == 200, answer.text
            own = server.said("a job ended", after=lines)["worked"]
            if number >= 3:
                found.append((seconds - own) * 1000)
                worked.append(own * 1000)
        after, lasted = cores(server), time.perf_counter() - began
        time.sleep(IDLE)
        idle = {role: (seconds - after[role]) / IDLE for role, seconds in cores(server).items()}
    told = {
        "rounds": options.rounds,
        "overhead_ms_median": round(statistics.median(found), 1),
        "overhead_ms_p90": round(statistics.quantiles(found, n=10)[8], 1),
        "core_ms": {
            role: round((after[role] - before[role] - idle[role] * lasted) * 1000 / options.rounds, 1) for role in after
        },
        "generation_ms_median": round(statistics.median(worked), 1),
    }
    print(json.dumps(told, indent=None if options.json else 1))
    return 0 if told["overhead_ms_median"] <= MOST_MS else 1


def cores(server: Server) -> dict[str, float]:
    """Seconds of a core that each process has used."""
    processes = {"server": psutil.Process(server.process.pid), "resolver": server.children()["resolver"]}
    return {role: sum(process.cpu_times()[:2]) for role, process in processes.items()}


if __name__ == "__main__":
    sys.exit(main())
