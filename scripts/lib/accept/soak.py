"""Many mixed jobs on one server: memory stays, descriptors stay, and every image is the one that it was before.

    scripts/accept soak [--jobs N] [--clients N] [--json]

Jobs differ in sampler, size, batch and prompt, some come with an image, some are refused, some are cancelled. After the
first 50 the resident memory of each process, its descriptors and its threads are noted, and again at the end; beside
that /healthz is asked all the time.

Exit code 0: memory within 50 MB, no more descriptors, /healthz within 50 ms in 99 of 100 cases, equal requests equal
hashes; 1: not so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
from _server import Server, serving

MOST_GROWTH = 50 * 2**20
MOST_MS = 50.0
FIRST = 50
SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DPM++ SDE", "UniPC")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        found = soaked(server, options.jobs, options.clients)
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["holds"] else 1


def soaked(server: Server, jobs: int, clients: int) -> dict[str, Any]:
    hashes: dict[str, set[str]] = {}
    with watching(server) as times, ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda number: one(server, number, hashes), range(min(FIRST, jobs))))
        before = used(server)
        list(pool.map(lambda number: one(server, number, hashes), range(FIRST, jobs)))
        after = used(server)
    growth = {role: {key: after[role][key] - before[role][key] for key in after[role]} for role in after}
    slow = statistics.quantiles(times, n=100)[98] if len(times) > 1 else 0.0
    differ = sorted(key for key, found in hashes.items() if len(found) > 1)
    holds = all(g["bytes"] <= MOST_GROWTH and g["descriptors"] <= 2 for g in growth.values())
    return {
        "jobs": jobs,
        "growth": growth,
        "healthz_p99_ms": round(slow, 1),
        "healthz_calls": len(times),
        "differing": differ,
        "holds": holds and not differ and slow <= MOST_MS,
    }


def fields_of(number: int) -> dict[str, Any]:
    made: dict[str, Any] = {"seed": number % 7, "steps": 2 + number % 3, "sampler": SAMPLERS[number % 5]}
    if number % 4 == 1:
        made |= {"width": 96, "height": 64}
    if number % 6 == 2:
        made["batch_size"] = 2
    if number % 10 == 3:
        made |= {"hires_upscale": 1.5, "hires_steps": 2}
    return made


def one(server: Server, number: int, hashes: dict[str, set[str]]) -> None:
    fields = fields_of(number)
    if number % 9 == 8:
        with server.client() as client:
            assert client.post("/v1/jobs", json={"prompt": "a", "steps": 10**9}).status_code == 422
        return
    job_id = server.submit(**fields)
    if number % 11 == 10:
        with server.client() as client:
            client.post(f"/v1/jobs/{job_id}/cancel")
        server.ended(job_id)
        return
    job = server.ended(job_id, 600)
    assert job["state"] == "done", job
    hashes.setdefault(json.dumps(fields, sort_keys=True), set()).add(" ".join(i["sha256"] for i in job["images"]))


def used(server: Server) -> dict[str, dict[str, int]]:
    """Of each process, at rest."""
    time.sleep(2)
    everybody = {"server": psutil.Process(server.process.pid), **server.children()}
    return {
        role: {"bytes": own.memory_info().rss, "descriptors": own.num_fds(), "threads": own.num_threads()}
        for role, own in everybody.items()
    }


class watching:  # noqa: N801 - used as a statement
    """Asks /healthz all the time; milliseconds."""

    def __init__(self, server: Server) -> None:
        self._server, self._end, self._times = server, threading.Event(), list[float]()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> list[float]:
        self._thread.start()
        return self._times

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._server.url, trust_env=False, timeout=30) as client:
            while not self._end.wait(0.1):
                start = time.perf_counter()
                assert client.get("/healthz").status_code == 200
                self._times.append((time.perf_counter() - start) * 1000)


if __name__ == "__main__":
    sys.exit(main())
