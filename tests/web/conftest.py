"""The studio in Chromium, over a real server with the embedded model."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from fakes.browser import CHROMIUM
from fakes.live import wait_for

if CHROMIUM is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

    expect.set_options(timeout=120_000)

FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")
SECONDS = 120.0
"""The longest that anything may take, on a busy machine."""
SHOTS = os.environ.get("ATELIER_SCREENSHOTS")
"""Where the screenshots of the documents are written; else they lie in the folder of each test."""


def serve(data: Path, *options: str, port: int = 0) -> tuple[subprocess.Popen[bytes], str]:
    """`atelier serve` in a process of its own, and its address once it accepts jobs."""
    command = (sys.executable, "-m", "atelier", "serve", "--port", str(port), "--data-dir", str(data), "--log-text", *options)
    log = data.parent / f"{data.name}.log"
    with log.open("a") as out:
        process = subprocess.Popen(command, stderr=out, stdout=out, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def told() -> list[str]:
        assert process.poll() is None, log.read_text()
        return re.findall(r"http://127\.0\.0\.1:\d+", log.read_text())

    wait_for(told, SECONDS)
    url = told()[-1]
    wait_for(lambda: _ready(url), SECONDS)
    return process, url


def _ready(url: str) -> bool:
    return httpx.get(url + "/readyz").status_code == 200


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(SECONDS)


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without keys, one for all tests of this process."""
    process, url = serve(tmp_path_factory.mktemp("studio") / "data")
    yield url
    stop(process)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A visitor: a browser without memory, whose pages may break no rule of the policy, and reach no other host."""
    opened = chromium.new_context(viewport={"width": 1400, "height": 900}, locale="en-GB", reduced_motion="reduce")
    opened.set_default_timeout(SECONDS * 1000)
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    opened.on("weberror", lambda error: wrong.append(str(error.error)))
    opened.on("request", lambda request: None if _own(request.url) else wrong.append(request.url))
    yield opened
    opened.close()
    assert wrong == []


def _own(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "blob:", "data:"))


@pytest.fixture
def page(context: BrowserContext, address: str) -> Page:
    """Paint, with nothing asked for yet."""
    opened = context.new_page()
    opened.goto(address)
    opened.get_by_role("textbox", name="Prompt", exact=True).wait_for()
    return opened


@pytest.fixture
def shot(tmp_path: Path) -> Callable[[Page, str], None]:
    """Keeps what the page shows, as NAME.png."""
    folder = Path(SHOTS) if SHOTS else tmp_path
    return lambda page, name: page.screenshot(path=folder / f"{name}.png") and None


@pytest.fixture
def accessible() -> Callable[[Page], None]:
    """Fails where axe finds a violation on the page."""

    def check(page: Page) -> None:
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []

    return check
