"""H19 and the page at / in a real browser."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fakes.browser import CHROMIUM, Browser, browser
from fakes.client import SECRETS, bearer, keyed
from fakes.live import live, wait_for
from fakes.service import FakeService, png

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
XSS = (
    "<script>window.hit=1</script>",
    '"><img src=x onerror="window.hit=1">',
    "<svg onload=window.hit=1>",
    "javascript:window.hit=1",
    "</figcaption></section><iframe srcdoc='<script>top.hit=1</script>'>",
)
SERVICE = FakeService(delay=0.05)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with live(SERVICE, keyed()) as url:
        for prompt in XSS:
            job = httpx.post(url + "/v1/jobs", json={"prompt": prompt}, headers=bearer("anna")).json()["id"]
            wait_for(lambda job=job: SERVICE.kept[job].job.state.ended)
        yield url


@pytest.fixture(scope="module")
def page(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open(address)
        yield opened


def fill(page: Browser, name: str, text: str) -> None:
    page.evaluate(f"document.getElementById({json.dumps(name)}).value = {json.dumps(text)}")


def said(page: Browser) -> object:
    return page.evaluate("document.getElementById('said').textContent")


def test_the_page_asks_for_a_key_and_shows_ones_images(page: Browser) -> None:
    page.until("!document.getElementById('login').hidden")
    assert "Not authenticated" in str(said(page))
    fill(page, "key", SECRETS["anna"])
    page.evaluate("document.querySelector('#login button').click()")
    page.until(f"document.querySelectorAll('figure img').length === {len(XSS)}")
    page.until("[...document.querySelectorAll('figure img')].every((image) => image.naturalWidth === 16)")


def test_hostile_prompts_are_shown_as_text(page: Browser) -> None:
    captions = page.evaluate("[...document.querySelectorAll('figcaption')].map((caption) => caption.textContent)")
    assert sorted(captions) == sorted(XSS)  # type: ignore[type-var]
    assert page.evaluate("window.hit ?? null") is None
    assert page.evaluate("document.querySelectorAll('figure script, figure svg, iframe, figcaption *').length") == 0


def test_generating_shows_progress_a_preview_and_the_image(page: Browser) -> None:
    page.evaluate(
        "window.seen = {}; new MutationObserver(() => { for (const id of ['progress', 'preview']) "
        "if (!document.getElementById(id).hidden) window.seen[id] = true; })"
        ".observe(document.body, {attributes: true, subtree: true})"
    )
    fill(page, "prompt", "a red apple")
    fill(page, "seed", "7")
    fill(page, "width", "128")
    page.evaluate("document.getElementById('go').click()")
    page.until("document.getElementById('said').textContent === 'Done.'")
    assert page.evaluate("document.querySelector('figure figcaption').textContent") == "a red apple"
    assert page.evaluate("window.seen") == {"progress": True, "preview": True}
    assert dict(SERVICE.submitted[-1].fields) == {"prompt": "a red apple", "seed": 7, "width": 128}


def test_stopping_a_job(page: Browser) -> None:
    SERVICE.delay = 0.5
    page.evaluate("document.getElementById('go').click()")
    page.until("!document.getElementById('stop').disabled")
    page.evaluate("document.getElementById('stop').click()")
    page.until("document.getElementById('said').textContent === 'The job is cancelled.'")
    SERVICE.delay = 0.0


def test_dropping_an_image_restores_its_settings(page: Browser) -> None:
    data = base64.b64encode(png("an oil painting of a lighthouse\nSteps: 20")).decode()
    page.evaluate(
        f"""(async () => {{
            const bytes = Uint8Array.from(atob("{data}"), (character) => character.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "a.png", {{ type: "image/png" }}));
            document.dispatchEvent(new DragEvent("drop", {{ dataTransfer: transfer, cancelable: true }}));
        }})()"""
    )
    page.until("document.getElementById('prompt').value === 'an oil painting of a lighthouse'")
    assert said(page) == "The settings of the image are restored."
    page.evaluate("document.getElementById('go').click()")
    page.until("document.getElementById('said').textContent === 'Done.'")
    assert dict(SERVICE.submitted[-1].fields) == {"prompt": "an oil painting of a lighthouse", "steps": 20}


def test_a_refusal_is_said(page: Browser) -> None:
    SERVICE.full = True
    page.evaluate("document.getElementById('go').click()")
    page.until("document.getElementById('said').textContent.startsWith('256 jobs wait')")
    SERVICE.full = False


def test_the_browser_saw_no_dialog_no_exception_and_no_breach_of_the_policy(page: Browser) -> None:
    assert page.told("Page.javascriptDialogOpening", "Runtime.exceptionThrown") == []
    entries = [event["params"]["entry"] for event in page.told("Log.entryAdded")]  # type: ignore[index]
    assert [entry for entry in entries if entry["source"] == "security"] == []


def test_code_in_the_page_is_stopped_by_the_policy(page: Browser) -> None:
    page.evaluate(
        "const script = document.createElement('script'); script.textContent = 'window.hit = 1';"
        "const image = document.createElement('img'); image.setAttribute('onerror', 'window.hit = 1');"
        "image.src = '/x'; document.body.append(script, image)"
    )
    page.until("document.images[document.images.length - 1].complete")
    assert page.evaluate("window.hit ?? null") is None


def test_another_origin_cannot_read_or_write(address: str, tmp_path: Path) -> None:
    with browser(tmp_path) as stranger:
        stranger.open("data:text/html,<title>evil</title>")
        before = len(SERVICE.kept)
        for options in ({}, {"method": "POST", "body": "{}", "mode": "no-cors"}, {"method": "POST", "body": "{}"}):
            url = address + ("/v1/jobs" if options else "/healthz")
            call = f"fetch({json.dumps(url)}, {json.dumps(options)})"
            told = stranger.evaluate(call + ".then((answer) => answer.type + answer.status, (error) => error.name)")
            assert told in {"TypeError", "opaque0"}
        assert len(SERVICE.kept) == before
