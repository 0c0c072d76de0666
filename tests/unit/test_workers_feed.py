"""What listeners hear of jobs, however slow they are."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from atelier.runtime.jobs.job import Job, JobProgress, State
from atelier.runtime.workers.backoff import FIRST, LAST, Backoff
from atelier.runtime.workers.feed import KEPT_AT_END, KEPT_LINES, KEPT_PREVIEWS, KEPT_PROGRESS, Feed
from atelier.runtime.workers.machine import memory, resident


def job(state: State = State.QUEUED, name: str = "a" * 32, created: float | None = None) -> Job:
    return Job(
        id=name,
        kind="generate",
        state=state,
        owner="anna",
        priority=0,
        attempt=0,
        created=time.time() if created is None else created,
        started=None,
        ended=None,
        position=None,
        expected=None,
        progress=JobProgress(),
        images=(),
        warnings=(),
        error=None,
        asked={},
        resolved=None,
        result=None,
    )


def test_a_slow_listener_costs_no_memory_and_misses_no_state() -> None:
    """O15."""
    feed, own = Feed(), job()
    feed.accepted(own)
    for number in range(2000):
        feed.progress(own.id, JobProgress(number, 2000))
        feed.preview(own.id, 0, b"jpeg %d" % number)
    names = [event.name for event in feed.line(own).after(0)]
    assert names.count("preview") == KEPT_PREVIEWS
    assert names.count("progress") == KEPT_PROGRESS
    feed.warning(own.id, "look")
    feed.state(replace(own, state=State.DONE))
    names = [event.name for event in feed.line(own).after(0)]
    assert names.count("preview") == 0
    assert names.count("progress") == KEPT_AT_END
    assert (names[0], names[-2:]) == ("state", ["warning", "state"])
    numbers = [event.number for event in feed.line(own).after(0)]
    assert numbers == sorted(numbers)
    assert feed.newest_preview(own.id) is None


def test_numbers_go_on_behind_those_of_an_earlier_server() -> None:
    feed, own = Feed(), job(State.RUNNING, created=time.time() - 60)
    first = feed.line(own).after(0)
    assert [event.name for event in first] == ["state"]
    assert first[0].number >= 60_000


def test_an_end_is_told_once_and_wakes_who_waits() -> None:
    async def run() -> list[str]:
        feed, own = Feed(), job()
        feed.accepted(own)
        line = feed.line(own)
        waiting = asyncio.create_task(line.change())
        await asyncio.sleep(0)
        feed.state(replace(own, state=State.CANCELLED))
        await asyncio.wait_for(waiting, 120)
        feed.state(replace(own, state=State.CANCELLED))
        return [str(event.data["state"]) for event in line.after(0)]

    assert asyncio.run(run()) == ["queued", "cancelled"]


def test_jobs_that_ended_are_forgotten_one_day_and_others_never() -> None:
    feed, running = Feed(), job(name="r" * 32)
    feed.accepted(running)
    for number in range(KEPT_LINES + 10):
        own = job(name=f"{number:032d}")
        feed.accepted(own)
        feed.state(replace(own, state=State.DONE))
    assert feed.owner(running.id) == "anna"
    assert feed.owner(f"{9:032d}") is None
    assert feed.owner(f"{10:032d}") == "anna"


def test_pauses_double_until_something_gets_done() -> None:
    backoff = Backoff()
    backoff.started()
    pauses = [backoff.died() for _ in range(12)]
    assert pauses[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert pauses[-1] == LAST
    backoff.worked()
    assert backoff.died() == FIRST
    backoff.died()
    backoff.since -= 61
    assert backoff.died() == FIRST


def test_memory_is_what_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable: 40 kB\n")
    assert memory(tmp_path / "meminfo") == (102_400, 40_960)
    assert memory(tmp_path / "none") == (0, 0)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("50 3 2 1 0 1 0\n")
    assert resident(7, tmp_path) % 3 == 0
    assert resident(8, tmp_path) == 0
