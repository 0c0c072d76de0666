"""Servers and workers that die at named points: what was accepted is done, once, and to the bit."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from serving import SECONDS, Server, serving

STEPS = 12
LONG = {"steps": STEPS, "seed": 5, "batch_count": 2}


def nothing_left_over(folder: Path) -> bool:
    return not [path for path in (folder / "data").rglob("*") if ".tmp" in path.name]


def test_a_killed_worker_goes_on_in_the_middle_of_an_image(tmp_path: Path) -> None:
    """Killed within the second image: the first one is not made again, the second is not begun again, and both have the
    bits of an undisturbed run. Then the server is killed in the same way, and the next one is told to stop (C05): the
    attempt does not count, and what was sampled is not sampled again. C02: what was accepted is there."""
    told = {"save": 0.0, "worker": "progress:20", "once": str(tmp_path / "died")}
    with serving(tmp_path, module="faulty", FAULTY=json.dumps(told)) as server:
        job = server.ended(server.submit(**LONG))
        assert (job["state"], job["attempt"]) == ("done", 2)
        resumed = server.said("a job ended")
        behind = server.lines.index(resumed) + 1
        undisturbed = server.ended(server.submit(**LONG))
        whole = server.said("a job ended", after=behind)
        hashes = [image["sha256"] for image in job["images"]]
        assert hashes == [image["sha256"] for image in undisturbed["images"]]
        assert whole["calls"] == 2 * STEPS
        assert resumed["calls"] + resumed["again"] == STEPS
        assert resumed["again"] >= 4

        with server.held(STEPS + STEPS // 3):
            job_id = server.submit(**LONG)
            job = server.until(job_id, lambda job: job["progress"]["done"] == STEPS + STEPS // 3)
            assert len(job["images"]) == 1
            children = list(server.children().values())
            server.kill()
        _, alive = psutil.wait_procs(children, 10)
        assert alive == [], "C08: no orphan after 10 s"
    with serving(tmp_path, "--grace", "0", module="faulty") as server:
        job = server.ended(job_id)
        assert (job["state"], job["attempt"]) == ("done", 2)
        assert [image["sha256"] for image in job["images"]] == hashes
        ended = server.said("a job ended")
        assert ended["calls"] + ended["again"] == STEPS
        assert ended["again"] == STEPS // 3

        with server.held(5):
            job_id = server.submit(steps=60, seed=5)
            server.until(job_id, lambda job: job["progress"]["done"] == 5)
            waiting = server.submit(seed=6)
            children = list(server.children().values())
            assert server.stop() == 0
        _, alive = psutil.wait_procs(children, 10)
        assert alive == []
    with serving(tmp_path) as server:
        job = server.ended(job_id)
        assert (job["state"], job["attempt"]) == ("done", 1)
        ended = server.said("a job ended")
        assert ended["again"] >= 5
        assert ended["calls"] + ended["again"] == 60
        assert server.ended(waiting)["state"] == "done"
        assert nothing_left_over(tmp_path)


POINTS = ["committed:1:kill", "list:1:kill"]
"""Behind the commit that accepts a job, before the answer; before an image that is on the disk is listed."""


def test_a_server_killed_anywhere_ends_every_accepted_job_once(tmp_path: Path) -> None:
    """C01, a sample of what `scripts/accept crash` does: one server after the other dies on the same folder."""
    accepted: list[str] = []
    for point in POINTS:
        with serving(tmp_path, module="faulty", ready=False, FAULTY=json.dumps({"server": point})) as server:
            _submit_until_death(server, accepted)
    with serving(tmp_path) as server:
        expected = server.generated()
        with server.client() as client:
            listed = [job["id"] for job in client.get("/v1/jobs").json()["data"]]
        assert len(listed) == 3
        assert {*accepted} < {*listed}
        for job_id in listed:
            job = server.ended(job_id)
            assert job["state"] == "done"
            assert [image["sha256"] for image in job["images"]] == expected
        assert nothing_left_over(tmp_path)


def _submit_until_death(server: Server, accepted: list[str]) -> None:
    with suppress(httpx.TransportError):
        accepted.append(server.submit())
    server.process.wait(SECONDS)
