"""The queue: what runs and waits, whoever asked for it, and how it ended; over reloads and restarts of the server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from fakes.live import get, post
from serving import serving

Shot = Callable[[Page, str], None]
Check = Callable[[Page], None]
ENDLESS = {"steps": 1000, "batch_count": 64}
"""More than a machine does while a test looks."""
LONG = {"prompt": "a red apple on a green background", "seed": 1, **ENDLESS}


@pytest.fixture
def queue(context: BrowserContext, address: str) -> Iterator[Page]:
    """The queue with nothing in it at first and at the end."""
    opened = context.new_page()
    opened.goto(f"{address}/queue")
    opened.get_by_text("Nothing runs and nothing waits.").wait_for()
    yield opened
    for job in (jobs := get(f"{address}/v1/queue").json())["running"] + jobs["waiting"]:
        post(f"{address}/v1/jobs/{job['id']}/cancel")


def ask(address: str, query: str = "", **fields: object) -> str:
    answer = post(f"{address}/v1/jobs{query}", json={"steps": 2, **fields})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def waiting(page: Page) -> Locator:
    return page.get_by_role("region", name="Waiting").get_by_role("listitem")


def running(page: Page) -> Locator:
    return page.get_by_role("region", name="Running").get_by_role("listitem")


def test_what_another_client_asks_for_appears_moves_and_is_cancelled(
    queue: Page, address: str, shot: Shot, accessible: Check
) -> None:
    ask(address, **LONG)
    for prompt in ("a green pear on a grey background", "a yellow moon above the sea", "a blue stone"):
        ask(address, prompt=prompt)
    expect(running(queue)).to_contain_text("a red apple on a green background")
    expect(running(queue)).to_contain_text(re.compile(r"Step \d+ of 64000"))
    expect(running(queue).locator("img")).to_be_visible()
    expect(waiting(queue)).to_have_count(3)
    shot(queue, "queue")
    accessible(queue)
    queue.get_by_role("button", name="Move a blue stone to the front").click()
    expect(waiting(queue).first).to_contain_text("a blue stone")
    queue.get_by_role("button", name="Cancel a green pear").focus()
    queue.keyboard.press("Enter")
    expect(waiting(queue)).to_have_count(2)
    queue.reload()
    expect(running(queue).locator("img")).to_be_visible()
    expect(waiting(queue).first).to_contain_text("a blue stone")
    queue.get_by_role("button", name="Cancel all that wait").click()
    expect(waiting(queue)).to_have_count(0)
    running(queue).get_by_role("button").click()
    expect(running(queue)).to_have_count(0)
    ended = queue.get_by_role("region", name="Ended").get_by_role("listitem")
    expect(ended.filter(has_text="a red apple on a green background").first).to_contain_text("Cancelled")


def test_a_failure_says_why_and_is_done_again(queue: Page, address: str, shot: Shot, accessible: Check) -> None:
    ask(address, "?timeout=0.001", prompt="a job without time", **ENDLESS)
    queue.get_by_role("radio", name="Failed").click()
    expect(queue).to_have_url(re.compile("show=failed"))
    failed = queue.get_by_role("region", name="Ended").get_by_role("listitem").first
    expect(failed).to_contain_text("the job ran longer than 0.001 seconds")
    shot(queue, "queue-failed")
    accessible(queue)
    failed.get_by_role("button", name="Do a job without time again").click()
    expect(running(queue)).to_contain_text("a job without time")
    failed.get_by_role("button", name="Remove").click()
    queue.get_by_role("dialog").get_by_role("button", name="Remove", exact=True).click()
    expect(queue.get_by_text("Removed.")).to_be_visible()


def test_what_runs_goes_on_after_a_restart(context: BrowserContext, tmp_path: Path, shot: Shot) -> None:
    page = context.new_page()
    with serving(tmp_path, "--grace", "0") as server:
        ask(server.url, **LONG)
        ask(server.url, prompt="a blue stone")
        page.goto(f"{server.url}/queue")
        expect(running(page)).to_contain_text(re.compile(r"Step [1-9]\d* of 64000"))
        server.stop()
        expect(page.get_by_text("The server does not answer.")).to_be_visible()
    with serving(tmp_path, "--port", server.url.rpartition(":")[2]):
        expect(page.get_by_text("The server does not answer.")).to_have_count(0)
        expect(running(page)).to_contain_text("a red apple on a green background")
        expect(running(page)).to_contain_text(re.compile(r"Step [1-9]\d* of 64000"))
        expect(waiting(page)).to_contain_text("a blue stone")
        shot(page, "queue-restarted")
