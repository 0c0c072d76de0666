"""A server and its workers killed at many points: every accepted job ends once, with the bits of an undisturbed run.

    scripts/accept crash [--points N] [--seed N] [--fake] [--json]

At each point, drawn from those of the store of jobs and from the messages of workers, a server gets three jobs and is
killed, or its worker is; then it is started again where it died. Checked: each accepted job is there and done, its
images have the hashes of undisturbed ones, no image is there twice, no temporary file is left. With --fake the
processes beside the server need no torch and their images are a function of the seed, so that a point takes seconds.

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
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
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
    "begin": 12,
    "commit": 12,
    "committed": 12,
    "image.open": 4,
    "image.write": 4,
    "image.fsync": 4,
    "image.rename": 4,
    "image.renamed": 4,
    "state.fsync": 4,
    "list": 4,
    "update": 6,
    "finish": 3,
}
"""Points of the store, and how often three jobs pass them."""
WORKER = {"progress": 8, "image": 4, "saved": 4, "done": 3, "alive": 8}
"""Messages of a worker, and how many there are."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fake", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        check = Check(Path(folder), fake=options.fake)
        with check.server() as server:
            check.expected += [server.generated(**fields) for fields in JOBS]
            server.stop()
        for point in drawn(options.points, options.seed):
            start = time.monotonic()
            outcome = check.live(point)
            seconds = time.monotonic() - start
            wrong = "; ".join(check.problems)
            line = f"{point.who:6} {point.name}:{point.passage:<3} {outcome:12} {seconds:5.1f} s {wrong}"
            print(line, file=sys.stderr, flush=True)
        check.end()
    told = {
        "points": options.points,
        "outcomes": dict(check.outcomes),
        "accepted": len(check.accepted),
        "problems": check.problems,
    }
    print(json.dumps(told, indent=None if options.json else 1))
    return 1 if check.problems else 0


@dataclass(frozen=True)
class Point:
    """who: server or worker; name: of a point or message; passage: the how many-th."""

    who: str
    name: str
    passage: int


def drawn(count: int, seed: int) -> Iterator[Point]:
    draw = random.Random(seed)
    for _ in range(count):
        who = draw.choice(["server", "worker"])
        names = STORE if who == "server" else WORKER
        name = draw.choice(sorted(names))
        yield Point(who, name, draw.randint(1, names[name]))


@dataclass
class Check:
    """One folder of data, in which one server follows the other. Each first ends what the one before was killed at."""

    folder: Path
    fake: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, int] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    expected: list[list[str]] = field(default_factory=list)

    def server(self, **told: Any) -> AbstractContextManager[Server]:
        told |= {"fake": self.fake}
        return serving(self.folder, module="faulty", ready=False, FAULTY=json.dumps(told))

    def live(self, point: Point) -> str:
        """The life of a server that is killed at one point, or whose worker is."""
        where, once = f"{point.name}:{point.passage}", self.folder / f"died-{len(self.accepted)}"
        armed = once.with_name(f"{once.name}-armed")
        told = {point.who: f"{where}:kill" if point.who == "server" else where}
        with self.server(save=0.0, once=str(once), armed=str(armed), **told) as server:
            self.settle(server)
            armed.touch()
            outcome = self.submit(server)
            if outcome == "survived":
                outcome = "worker died" if once.exists() else "not reached"
                self.settle(server)
        self.outcomes[outcome] += 1
        return outcome

    def submit(self, server: Server) -> str:
        """Submits all jobs and waits for their ends, or for the server's."""
        try:
            for number, fields in enumerate(JOBS):
                job_id = server.submit(**fields)
                self.accepted[job_id] = number
                self.open.append(job_id)
            for job_id in self.open:
                server.ended(job_id)
        except httpx.TransportError:
            server.process.wait(60)
            return "server died"
        return "survived"

    def settle(self, server: Server) -> None:
        """Looks at the jobs that an earlier server accepted, once they have ended."""
        for job_id in self.open:
            job, number = server.ended(job_id), self.accepted[job_id]
            hashes = [image["sha256"] for image in job["images"]]
            if job["state"] != "done" or hashes != self.expected[number]:
                equal = "equal" if hashes == self.expected[number] else "differ"
                self.problems.append(f"{job_id}: {job['state']} in attempt {job['attempt']}, its images {equal}")
        self.open.clear()

    def end(self) -> None:
        """Looks at all there is, once nothing happens any more."""
        with self.server() as server:
            self.settle(server)
            listed, before = list[dict[str, Any]](), None
            with server.client() as client:
                while True:
                    page = client.get(
                        "/v1/jobs", params={"limit": 100, **({"before": before} if before else {})}
                    ).json()
                    listed += page["data"]
                    if not page["has_more"]:
                        break
                    before = page["data"][-1]["id"]
            listed = [server.ended(job["id"]) for job in listed]
            self.problems += [f"{job['id']}: is {job['state']}" for job in listed if job["state"] != "done"]
            self.problems += [f"{job_id}: is gone" for job_id in self.accepted.keys() - {job["id"] for job in listed}]
            for job in listed:
                indices = [image["index"] for image in job["images"]]
                if indices != sorted(set(indices)):
                    self.problems.append(f"{job['id']}: images {indices}")
            assert server.stop() == 0
        left = [path for path in (self.folder / "data").rglob("*") if ".tmp" in path.name]
        self.problems += [f"left over: {path}" for path in left]


if __name__ == "__main__":
    sys.exit(main())
