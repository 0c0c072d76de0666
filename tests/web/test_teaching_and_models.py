"""Teach, Models and Settings: a thing is taught and used, models are looked at and made of others, and what there is to
set. A server of their own, whose folder of models is theirs."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect

from fakes.live import SECONDS, get, post
from serving import Server, serving

Shot = Callable[[Page, str], None]
Check = Callable[[Page], None]
TAUGHT = 600_000.0
"""Milliseconds that sixteen steps may take on a busy machine."""
GROUNDS = ("white", "lightblue", "khaki")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("workshop")
    told = json.dumps({"saying": 0.0, "lease": SECONDS})
    own = {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache"), "FAULTY": told}
    with serving(folder, module="faulty", **own) as running:
        yield running


@pytest.fixture(scope="module")
def address(server: Server) -> str:
    return server.url


def star(ground: str, turn: int) -> bytes:
    """A purple thing that the embedded model has never seen."""
    image, file = Image.new("RGB", (160, 160), ground), io.BytesIO()
    draw = ImageDraw.Draw(image)
    draw.regular_polygon((80, 80, 55), 5, rotation=turn, fill=(120, 60, 190))
    draw.ellipse((62, 66, 74, 78), fill="white")
    draw.ellipse((86, 66, 98, 78), fill="white")
    image.save(file, "PNG")
    return file.getvalue()


def images() -> list[dict[str, object]]:
    """As the page's chooser of files takes them, with the caption of the first."""
    pictures = [
        {"name": f"spoki-{number}.png", "mimeType": "image/png", "buffer": star(ground, 15 * number)}
        for number, ground in enumerate(GROUNDS, start=1)
    ]
    return [*pictures, {"name": "spoki-1.txt", "mimeType": "text/plain", "buffer": b"a spoki on a white background\n"}]


def go(page: Page, screen: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=screen).click()
    page.get_by_role("heading", name=screen, level=1).wait_for()


def chosen(page: Page) -> None:
    """The images, as the chooser of files gives them."""
    page.get_by_role("button", name="Choose images").wait_for()
    page.locator("input[type=file]").set_input_files(images())  # type: ignore[arg-type] - as FilePayload has it
    expect(page.get_by_role("button", name="Remove spoki-3.png")).to_be_visible()


def test_a_thing_is_taught_stopped_gone_on_with_and_used(
    page: Page, server: Server, shot: Shot, accessible: Check
) -> None:
    go(page, "Teach")
    accessible(page)
    chosen(page)
    expect(page.get_by_role("textbox", name="Caption of spoki-1.png")).to_have_value("a spoki on a white background")
    page.get_by_role("textbox", name="Word for it").fill("spoki")
    page.get_by_role("button", name="More").click()
    page.get_by_role("textbox", name="Steps").fill("16")
    page.get_by_role("textbox", name="Images that keep it from forgetting").fill("0")
    page.get_by_role("textbox", name="Name of the result").focus()
    summary = page.get_by_role("complementary", name="What will happen")
    expect(summary).to_contain_text("16 steps, 4 images in each")
    expect(summary).to_contain_text("<lora:spoki:1> spoki")
    page.evaluate("scrollTo(0, 0)")
    shot(page, "teach")
    accessible(page)
    start = page.get_by_role("button", name="Start teaching")
    start.focus()
    with server.held(6):
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("job="))
        first = page.url
        expect(page.get_by_role("img", name=re.compile("^Loss over [2-9]"))).to_be_visible()
        page.reload()
        expect(page.get_by_role("img", name=re.compile("^Loss over"))).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text(re.compile(r"^Stopped at step \d+"))).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url(lambda url: "job=" in url and url != first)
    expect(page.get_by_role("button", name="Use it now")).to_be_visible(timeout=TAUGHT)
    expect(page.get_by_role("img", name=re.compile("^Loss over 16 steps"))).to_be_visible()
    expect(page.get_by_role("button", name="Step 16")).to_be_visible()
    shot(page, "teach-done")
    accessible(page)
    page.get_by_role("button", name="Use it now").click()
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(prompt).to_have_value("<lora:spoki:1> spoki")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("article", name="<lora:spoki:1> spoki").first).to_have_attribute("data-state", "done")
    shot(page, "teach-used")


def test_what_is_to_be_taught_is_there_after_a_reload_with_captions_of_the_models_own_eye(page: Page) -> None:
    go(page, "Teach")
    chosen(page)
    page.get_by_role("button", name="Write captions for all").click()
    third = page.get_by_role("textbox", name="Caption of spoki-3.png")
    expect(third).to_have_value(re.compile("background$"))
    third.fill("a spoki on a yellow background")
    page.get_by_text("A style", exact=True).click()
    page.reload()
    expect(third).to_have_value("a spoki on a yellow background")
    expect(page.get_by_role("radio", name=re.compile("A style"))).to_be_checked()
    page.get_by_role("button", name="Remove spoki-2.png").click()
    expect(page.get_by_role("textbox", name=re.compile("^Caption of"))).to_have_count(2)


def test_a_method_that_nobody_has_and_too_few_steps_are_said_before_the_start(page: Page, address: str) -> None:
    answer = post(f"{address}/v1/teaching/forecast", json={"count": 3, "method": "lorra"})
    assert (answer.status_code, "unknown method 'lorra'" in answer.text) == (422, True)
    go(page, "Teach")
    chosen(page)
    page.get_by_role("textbox", name="Word for it").fill("a cat")
    expect(page.get_by_role("complementary", name="What will happen")).to_contain_text("its meaning will change")


def converted(page: Page, name: str) -> None:
    """The embedded model as one file."""
    page.get_by_role("link", name=re.compile("^embedded")).click()
    page.get_by_role("button", name="Convert…").click()
    box = page.get_by_role("textbox", name="Name of the new model")
    box.fill(name)
    box.focus()
    page.get_by_role("button", name="Convert", exact=True).click()
    expect(page.get_by_role("heading", name=name, level=2)).to_be_visible()


def test_models_are_converted_merged_and_used(page: Page, shot: Shot, accessible: Check, address: str) -> None:
    go(page, "Models")
    accessible(page)
    converted(page, "morning")
    page.get_by_role("button", name="Convert…").click()
    accessible(page)
    page.keyboard.press("Escape")
    converted(page, "evening")
    page.get_by_role("button", name="Merge…").click()
    slider = page.get_by_role("slider", name="How much of the second")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("evening × 0.7 + morning × 0.3")).to_be_visible()
    accessible(page)
    shot(page, "models-merge")
    page.get_by_role("textbox", name="Name of the new model").fill("mixed")
    page.get_by_role("button", name="Merge", exact=True).click()
    expect(page.get_by_role("heading", name="mixed", level=2)).to_be_visible()
    page.get_by_role("button", name="Hashes").click()
    page.get_by_role("button", name="Hash and check").click()
    expect(page.get_by_text("All numbers are finite.")).to_be_visible()
    files = get(f"{address}/v1/weights").json()["data"]
    mixed = next(file for file in files if file["name"] == "mixed")
    sha256 = get(f"{address}/v1/weights/{mixed['id']}").json()["sha256"]
    expect(page.get_by_text(sha256)).to_be_visible()
    shot(page, "models")
    accessible(page)
    page.get_by_role("button", name="Use this model").click()
    expect(page.get_by_role("link", name=re.compile("^mixed")).get_by_text("in use")).to_be_visible()
    page.get_by_role("button", name="Free the memory").click()
    expect(page.get_by_text("The memory of all networks is free.")).to_be_visible()
    post(f"{address}/v1/models/load", json={"model": "embedded"})


def test_a_name_that_is_taken_is_said_where_it_is_typed(page: Page) -> None:
    go(page, "Models")
    converted(page, "taken")
    page.get_by_role("link", name=re.compile("^embedded")).click()
    page.get_by_role("button", name="Convert…").click()
    box = page.get_by_role("textbox", name="Name of the new model")
    for name, said in (("taken", "exists already"), ("a/b", "name: ")):
        box.fill(name)
        page.get_by_role("button", name="Convert", exact=True).click()
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text(said)


def test_the_shelf_is_searched_and_filtered_in_the_address(page: Page, accessible: Check) -> None:
    go(page, "Models")
    page.get_by_role("searchbox", name="Search").fill("no such thing")
    expect(page.get_by_text("Nothing fits.")).to_be_visible()
    page.get_by_role("searchbox", name="Search").fill("embed")
    page.get_by_role("radio", name=re.compile("^Models")).click()
    expect(page).to_have_url(re.compile("q=embed.*kind=checkpoint"))
    page.reload()
    expect(page.get_by_role("link", name=re.compile("^embedded"))).to_be_visible()
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("embed")
    accessible(page)


def test_language_theme_and_what_the_server_runs_with(page: Page, shot: Shot, accessible: Check) -> None:
    go(page, "Settings")
    expect(page.get_by_text("This server asks for no key")).to_be_visible()
    expect(page.get_by_role("region", name="Folders")).to_contain_text("models")
    expect(page.get_by_role("region", name="Server", exact=True)).to_contain_text("cpu")
    accessible(page)
    shot(page, "settings")
    page.get_by_role("radio", name="As the system").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    accessible(page)
    shot(page, "settings-dark")
    page.get_by_text("中文", exact=True).click()
    expect(page.get_by_role("heading", name="设置", level=1)).to_be_visible()
    for screen in ("训练", "模型"):
        page.get_by_role("navigation").get_by_role("link", name=screen).click()
        expect(page.get_by_role("heading", name=screen, level=1)).to_be_visible()
        accessible(page)
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page, accessible: Check) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for screen in ("Teach", "Models", "Settings"):
        go(page, screen)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, screen
        accessible(page)


def test_places_are_not_told_to_those_who_are_no_admin(tmp_path: Path) -> None:
    keys = ("--api-key", f"anna:{'a' * 40}", "--api-key", f"ben:{'b' * 40}")
    with serving(tmp_path, *keys, ready=False) as server, server.of_key("b" * 40).client() as http:
        server.said("the resolver is ready")
        answer = http.get("/v1/server")
        assert answer.json()["you"] == {"key": "ben", "admin": False}
        assert str(tmp_path) not in answer.text
        assert http.post("/v1/jobs/convert", json={"model": "embedded", "name": "x"}).status_code == 403
