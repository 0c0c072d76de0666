"""H19 in a real browser: what users write is text, and the policy stops what is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from fakes.client import SECRETS, bearer, keyed
from fakes.live import live, post, wait_for
from fakes.service import FakeService, png

XSS = (
    "<script>window.hit=1</script>",
    '"><img src=x onerror="window.hit=1">',
    "<svg onload=window.hit=1>",
    "javascript:window.hit=1",
    "</p></article><iframe srcdoc='<script>top.hit=1</script>'>",
)
SERVICE = FakeService(delay=0.05)


@pytest.fixture(scope="module")
def keyed_address() -> Iterator[str]:
    with live(SERVICE, keyed()) as url:
        for prompt in XSS:
            job = post(url + "/v1/jobs", json={"prompt": prompt}, headers=bearer("anna")).json()["id"]
            wait_for(lambda job=job: SERVICE.kept[job].job.state.ended)
        yield url


@pytest.fixture
def visit(context: BrowserContext, keyed_address: str) -> Page:
    """Paint, with anna's key."""
    page = context.new_page()
    page.goto(keyed_address)
    page.get_by_label("Key").fill(SECRETS["anna"])
    page.get_by_role("button", name="Use this key").click()
    page.get_by_role("textbox", name="Prompt", exact=True).wait_for()
    return page


def ask(page: Page, prompt: str) -> None:
    page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Generate").click()


def test_a_wrong_key_is_said(context: BrowserContext, keyed_address: str, shot: Callable[[Page, str], None]) -> None:
    page = context.new_page()
    page.goto(keyed_address)
    page.get_by_label("Key").fill("no key of this server")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_text("The server does not know this key.")).to_be_visible()
    shot(page, "key")


def test_refusals_that_come_late_do_not_refuse_the_key(context: BrowserContext, keyed_address: str) -> None:
    """What the page asked for before it had the key is answered after the key was given."""
    refused, late = list[str](), list[Route]()

    def hold(route: Route) -> None:
        if "authorization" in route.request.headers:
            route.continue_()
        elif refused:
            late.append(route)
        else:
            refused.append(route.request.url)
            route.fulfill(status=401)

    page = context.new_page()
    page.route("**/v1/**", hold)
    page.goto(keyed_address)
    page.get_by_label("Key").fill(SECRETS["anna"])
    page.get_by_role("button", name="Use this key").click()
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    prompt.wait_for()
    assert late
    for route in late:
        with page.expect_event("requestfinished", lambda one, url=route.request.url: one.url == url):
            route.fulfill(status=401)
    expect(page.get_by_label("Key")).to_have_count(0)
    expect(prompt).to_be_visible()


def test_hostile_prompts_are_shown_as_text(visit: Page) -> None:
    for prompt in XSS:
        expect(visit.locator(".job-prompt").get_by_text(prompt, exact=True)).to_have_count(1)
    assert visit.evaluate("window.hit ?? null") is None
    assert visit.locator("article script, article .job-prompt *, iframe, [onload], [onerror]").count() == 0
    expect(visit.locator("article img").first).to_have_js_property("naturalWidth", 16)


def test_the_fields_of_the_form_are_those_that_are_asked_for(visit: Page) -> None:
    visit.get_by_role("textbox", name="Seed").fill("7")
    visit.get_by_role("textbox", name="Steps").fill("3")
    visit.get_by_role("textbox", name="Steps").press("Tab")
    ask(visit, "a red apple")
    expect(visit.get_by_role("article", name="a red apple").first).to_have_attribute("data-state", "done")
    assert dict(SERVICE.submitted[-1].fields) == {"prompt": "a red apple", "seed": 7, "steps": 3}


def test_one_press_is_one_job_and_stopping_it_ends_it(visit: Page) -> None:
    SERVICE.stays = 1
    before = len(SERVICE.kept)
    ask(visit, "a slow pear")
    visit.get_by_role("article", name="a slow pear").get_by_role("button", name="Stop").click()
    expect(visit.get_by_role("article", name="a slow pear")).to_have_attribute("data-state", "cancelled")
    SERVICE.stays = 0
    assert len(SERVICE.kept) == before + 1


def test_dropping_an_image_restores_its_settings(visit: Page) -> None:
    data = base64.b64encode(png("an oil painting of a lighthouse\nSteps: 20")).decode()
    visit.evaluate(
        f"""async () => {{
            const bytes = Uint8Array.from(atob("{data}"), (character) => character.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "a.png", {{ type: "image/png" }}));
            document.dispatchEvent(new DragEvent("drop", {{ dataTransfer: transfer, cancelable: true }}));
        }}"""
    )
    expect(visit.get_by_role("textbox", name="Prompt", exact=True)).to_have_value("an oil painting of a lighthouse")
    expect(visit.get_by_role("textbox", name="Steps")).to_have_value("20")
    expect(visit.get_by_text("The settings of the image are restored.")).to_be_visible()


def test_a_refusal_is_said(visit: Page) -> None:
    SERVICE.full = True
    ask(visit, "one more")
    expect(visit.get_by_text("256 jobs wait")).to_be_visible()
    SERVICE.full = False
    expect(visit.get_by_role("textbox", name="Prompt", exact=True)).to_have_value("one more")


def test_code_in_the_page_is_stopped_by_the_policy(chromium: Browser, keyed_address: str) -> None:
    page = chromium.new_page()
    page.goto(keyed_address)
    page.evaluate(
        "const script = document.createElement('script'); script.textContent = 'window.hit = 1';"
        "const image = document.createElement('img'); image.setAttribute('onerror', 'window.hit = 1');"
        "image.src = '/x'; document.body.append(script, image)"
    )
    expect(page.locator("img").last).to_have_js_property("complete", value=True)
    assert page.evaluate("window.hit ?? null") is None
    page.close()


def test_another_origin_cannot_read_or_write(chromium: Browser, keyed_address: str) -> None:
    stranger = chromium.new_page()
    stranger.goto("data:text/html,<title>evil</title>")
    before = len(SERVICE.kept)
    for options in ({}, {"method": "POST", "body": "{}", "mode": "no-cors"}, {"method": "POST", "body": "{}"}):
        url = keyed_address + ("/v1/jobs" if options else "/healthz")
        call = f"fetch({json.dumps(url)}, {json.dumps(options)})"
        told = stranger.evaluate(f"() => {call}.then((answer) => answer.type + answer.status, (error) => error.name)")
        assert told in {"TypeError", "opaque0"}
    assert len(SERVICE.kept) == before
    stranger.close()
