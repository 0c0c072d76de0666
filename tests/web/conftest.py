"""The studio in Chromium, over a real server with the embedded model."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.live import SECONDS
from web_server import serve, stop

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

if CHROMIUM is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

    expect.set_options(timeout=SECONDS * 1000)

FLAGS = ("--no-sandbox", "--disable-dev-shm-usage")
STAYING = """
    const later = window.setTimeout;
    window.setTimeout = (act, wait, ...rest) => later(act, wait === 8000 || wait === 20000 ? 30000 : wait, ...rest);
"""
"""Messages at the foot of a page, which go after 8 or 20 seconds, stay longer: a busy machine takes time to look at
them. Not for ever: a click waits for those that cover its button."""
SHOTS = os.environ.get("ATELIER_SCREENSHOTS")
"""Where the screenshots of the documents are written; else they lie in the folder of each test."""


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server without keys, one for all tests of this process, with a network that reads edges."""
    from control_support import written_for_embedded

    folder = tmp_path_factory.mktemp("studio")
    (folder / "models" / "ControlNet").mkdir(parents=True)
    written_for_embedded(folder / "models" / "ControlNet" / "tiny_canny.safetensors", 1)
    process, url = serve(folder / "data", "--models-dir", str(folder / "models"))
    yield url
    stop(process)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Closed after each file: while it is open its loop runs, and no other test can have one."""
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A visitor: a browser without memory, whose pages may break no rule of the policy, and reach no other host."""
    opened = chromium.new_context(viewport={"width": 1400, "height": 900}, locale="en-GB", reduced_motion="reduce")
    opened.set_default_timeout(SECONDS * 1000)
    opened.add_init_script(STAYING)
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
