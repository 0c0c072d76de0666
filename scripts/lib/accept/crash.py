"""A server and its workers killed at many points: every accepted job ends once, with the bits of an undisturbed run.

    scripts/accept crash [--points N] [--seed N] [--json]

At each point, drawn from those of the store of jobs and from the messages of workers, a server gets three jobs and is
killed, or its worker is; then it is started again where it died. Checked: each accepted job is there and done, its
images have the hashes of undisturbed ones, no image is there twice, no temporary file is left.

Exit code 0: all held; 1: some did not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx


from _server import Server, serving

JOBS: tuple[dict[str, Any], ...] = (
    {"seed": 5, "steps": 12},
    {"seed": 6, "batch_count": 2},
    {"seed": 7, "sampler": "Euler a"},
)
STORE = {
    "accept": 3,
    "claim": 6,
    "begin": 24,
    "commit": 24,
    "committed": 24,
    "image.open": 4,
    "image.write": 4,
    "image.fsync": 4,
    "image.rename": 4,
    "image.renamed": 4,
    "thumbnail.fsync": 4,
    "state.fsync": 8,
    "list": 4,
    "update": 6,
    "finish": 3,
}
"""Points of the store, and how often three jobs pass them."""
WORKER = {"progress": 24, "image": 4, "saved": 16, "done": 3, "alive": 12}
"""Messages of a worker, and how many there are."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    expected = undisturbed()
    found: Counter[str] = Counter()
    problems: list[str] = []
    for number in range(options.points):
        who = draw.choice(["server", "worker"])
        name = draw.choice(sorted(STORE if who == "server" else WORKER))
        passage = draw.randint(1, (STORE if who == "server" else WORKER)[name])
        start = time.monotonic()
        outcome, wrong = point(who, f"{name}:{passage}", expected)
        found[outcome] += 1
        problems += [f"{who} {name}:{passage}: {one}" for one in wrong]
        seconds = time.monotonic() - start
        line = f"{number + 1:3} {who:6} {name}:{passage:<3} {outcome:12} {seconds:5.1f} s {'; '.join(wrong)}"
        print(line, file=sys.stderr, flush=True)
    print(
        json.dumps(
            {"points": options.points, "outcomes": dict(found), "problems": problems},
            indent=None if options.json else 1,
        )
    )
    return 1 if problems else 0


def undisturbed() -> list[list[str]]:
    """The hashes of the images of each job."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        return [server.generated(**fields) for fields in JOBS]


def point(who: str, where: str, expected: list[list[str]]) -> tuple[str, list[str]]:
    """(what happened, what is wrong) with a death at one point."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        told = {"save": 0.0, "once": str(folder / "died"), who: f"{where}:kill" if who == "server" else where}
        accepted: dict[str, int] = {}
        with serving(folder, module="faulty", ready=False, FAULTY=json.dumps(told)) as server:
            outcome = live(server, accepted)
            if outcome == "survived":
                return ("worker died" if (folder / "died").exists() else "not reached"), checked(
                    server, accepted, expected
                )
        with serving(folder) as server:
            return outcome, checked(server, accepted, expected)


def live(server: Server, accepted: dict[str, int]) -> str:
    """Submits all jobs and waits for their ends, or for the server's."""
    try:
        for number, fields in enumerate(JOBS):
            accepted[server.submit(**fields)] = number
        for job_id in accepted:
            server.ended(job_id)
    except httpx.TransportError:
        server.process.wait(60)
        return "server died"
    return "survived"


def checked(server: Server, accepted: dict[str, int], expected: list[list[str]]) -> list[str]:
    wrong: list[str] = []
    for job_id, number in accepted.items():
        job = server.ended(job_id)
        hashes = [image["sha256"] for image in job["images"]]
        if job["state"] != "done" or hashes != expected[number]:
            wrong.append(f"{job_id} is {job['state']}, images {'equal' if hashes == expected[number] else 'differ'}")
    with server.client() as client:
        listed = client.get("/v1/jobs", params={"limit": 100}).json()["data"]
    for job in listed:
        server.ended(job["id"])
    if {job["id"] for job in listed} < set(accepted):
        wrong.append("an accepted job is gone")
    left = [str(path) for path in (server.folder / "data").rglob("*") if ".tmp" in path.name]
    return wrong + [f"left over: {path}" for path in left]


if __name__ == "__main__":
    sys.exit(main())
