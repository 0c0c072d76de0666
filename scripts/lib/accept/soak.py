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
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from _server import Server, serving

MOST_GROWTH = 50 * 2**20
MOST_MS = 50.0
FIRST = 50
ASKING = """
import http.client, json, select, sys, time, urllib.parse
way, times = http.client.HTTPConnection(urllib.parse.urlsplit(sys.argv[1]).netloc, timeout=30), []
while not select.select([sys.stdin], [], [], 0.1)[0]:
    start = time.perf_counter()
    way.request("GET", "/healthz")
    answer = way.getresponse()
    assert answer.status == 200, answer.status
    answer.read()
    times.append((time.perf_counter() - start) * 1000)
print(json.dumps(times))
"""
"""Asks until its input ends."""
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
    with ThreadPoolExecutor(clients) as pool, watching(server) as times:
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


@contextmanager
def watching(server: Server) -> Iterator[list[float]]:
    """Asks /healthz all the time, from a process of its own, as a supervisor does: what the clients here compute is not
    the server's. Milliseconds, there when the context has ended."""
    times: list[float] = []
    command = [sys.executable, "-c", ASKING, server.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
        yield times
        said, _ = asking.communicate()
    assert asking.returncode == 0, "/healthz did not answer"
    times += json.loads(said)


if __name__ == "__main__":
    sys.exit(main())
