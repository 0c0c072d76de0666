"""What people do on each screen, from its load to its result, with keys alone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import BrowserContext, FileChooser, Locator, Page, expect

from fakes.live import get, post, wait_for
from fakes.service import png

Shot = Callable[[Page, str], None]
Fields = dict[str, Any]
MOST = 150
"""Presses of Tab that anything may be away."""


@pytest.fixture
def opened(context: BrowserContext, address: str) -> Callable[[str], Page]:
    """Loads a screen."""

    def load(path: str) -> Page:
        page = context.new_page()
        page.goto(address + path)
        return page

    return load


def reach(page: Page, target: Locator, key: str = "Tab") -> None:
    """Tab, until it has the focus. A list that opens on the way hides the rest of the page, until it is left."""
    expect(target).to_be_visible()
    for _ in range(MOST):
        if target.evaluate_all("found => found.includes(document.activeElement)"):
            return
        page.keyboard.press(key)
    raise AssertionError(f"no key leads to {target}")


def press(page: Page, name: str | re.Pattern[str], role: Any = "button", key: str = "Enter") -> None:
    reach(page, page.get_by_role(role, name=name, exact=isinstance(name, str)).first)
    page.keyboard.press(key)


def write(page: Page, name: str, text: str, role: Any = "textbox") -> None:
    """Types in place of what a field has."""
    reach(page, page.get_by_role(role, name=name, exact=True))
    page.keyboard.press("Control+a")
    page.keyboard.type(text)


def choose(page: Page, button: str, *files: Any) -> None:
    """Presses a button that asks for files, and gives it some."""
    with page.expect_file_chooser() as asked:
        press(page, button)
    chooser: FileChooser = asked.value
    chooser.set_files(list(files))


def picture(kind: str, data: bytes, name: str = "picture") -> Fields:
    return {"name": f"{name}.{kind}", "mimeType": f"image/{kind}", "buffer": data}


def square(colour: str) -> bytes:
    image, file = Image.new("RGB", (128, 128), "white"), io.BytesIO()
    ImageDraw.Draw(image).rectangle((30, 30, 90, 90), colour)
    image.save(file, "PNG")
    return file.getvalue()


def newest(address: str) -> Fields:
    """The job that was asked for last."""
    return get(address + "/v1/jobs?limit=1").json()["data"][0]


def test_settings_come_back_are_explained_compared_and_varied(
    opened: Callable[[str], Page], address: str, shot: Shot
) -> None:
    page = opened("/")
    said = "a (violet:1.2) plum\nSteps: 2, Sampler: Euler, CFG scale: 2, Seed: 5, Size: 64x64"
    choose(page, "Settings of an image", picture("png", png(said)))
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    expect(prompt).to_have_value("a (violet:1.2) plum")
    expect(page.get_by_role("status").filter(has_text="restored")).to_be_visible()
    shot(page, "paint-restored")
    press(page, "Explain the prompt")
    expect(page.get_by_role("dialog").locator("[data-weight=more]")).to_have_text("violet1.2")
    page.keyboard.press("Escape")
    press(page, "Twice as large (hires)", key="Space")
    reach(page, prompt)
    page.keyboard.press("Control+Enter")
    plum = page.get_by_role("article", name="a (violet:1.2) plum")
    expect(plum.first).to_have_attribute("data-state", "done")
    expect(plum.first.locator("img")).to_have_js_property("naturalWidth", 128)
    shot(page, "paint-hires")
    press(page, "Twice as large (hires)", key="Space")
    press(page, re.compile("^Compare settings"))
    across, down = page.get_by_role("group", name="Across (X)"), page.get_by_role("group", name="Down (Y)")
    reach(page, across.get_by_label("Values"))
    page.keyboard.type("1,2")
    reach(page, down.get_by_role("button"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("listbox")).to_be_visible()
    reach(page, page.get_by_role("option", name="CFG scale", exact=True), "ArrowDown")
    page.keyboard.press("Enter")
    expect(down.get_by_role("button")).to_contain_text("CFG scale")
    reach(page, down.get_by_label("Values"))
    page.keyboard.type("1,3")
    page.keyboard.press("Enter")
    expect(page.get_by_role("table").locator("td img[src*='/v1/images/']")).to_have_count(4)
    page.keyboard.press("Escape")
    expect(page.get_by_role("table")).to_have_count(0)
    reach(page, plum.first.get_by_role("button").first)
    page.keyboard.press("Enter")
    press(page, "Vary it")
    expect(page).to_have_url(re.compile("variation_strength=0.15"))
    reach(page, prompt)
    page.keyboard.press("Control+Enter")
    wait_for(lambda: newest(address)["asked"].get("variation_strength") == 0.15)
    expect(plum.first).to_have_attribute("data-state", "done")
    shot(page, "paint-variation")


def test_images_are_found_collected_compared_thrown_away_and_restored(
    opened: Callable[[str], Page], address: str, shot: Shot
) -> None:
    asked = {"prompt": "a keyed fig", "steps": 1, "width": 64, "height": 64, "batch_count": 3}
    job = post(address + "/v1/jobs", json=asked).json()["id"]
    wait_for(lambda: get(f"{address}/v1/jobs/{job}").json()["state"] == "done")
    page = opened("/gallery")
    write(page, "Search", "keyed fig", role="searchbox")
    expect(page.get_by_text("3 images", exact=True)).to_be_visible()
    shot(page, "gallery-search")
    images = page.get_by_role("listbox", name="Images")
    reach(page, images)
    for key in ("Home", "Space", "ArrowRight", "Space"):
        page.keyboard.press(key)
    expect(page.get_by_text("2 selected")).to_be_visible()
    press(page, "Put on a board")
    expect(page.get_by_role("menuitem", name="New board").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="2 put on New board")).to_be_visible()
    shot(page, "gallery-board")
    press(page, "Compare")
    slider = page.get_by_role("dialog").get_by_role("slider", name="Where the images meet")
    reach(page, slider)
    page.keyboard.press("End")
    page.keyboard.press("Escape")
    reach(page, images)
    page.keyboard.press("s")
    expect(page.locator("#image-1")).to_have_attribute("aria-label", re.compile("starred"))
    page.keyboard.press("Delete")
    expect(page.get_by_text("1 image", exact=True)).to_be_visible()
    press(page, re.compile("^Trash"))
    expect(page.get_by_text("2 images", exact=True)).to_be_visible()
    reach(page, images)
    page.keyboard.press("Control+a")
    expect(page.get_by_text("2 selected")).to_be_visible()
    shot(page, "gallery-trash")
    press(page, "Restore")
    expect(page.get_by_text("The trash is empty.").or_(page.get_by_text("Nothing fits this search."))).to_be_visible()
    press(page, re.compile("^All images"))
    expect(page.get_by_text("3 images", exact=True)).to_be_visible()
    reach(page, images)
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    press(page, "Use these settings")
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_have_value("a keyed fig")


def test_jobs_are_moved_cancelled_and_done_again(opened: Callable[[str], Page], address: str, shot: Shot) -> None:
    endless = {"steps": 1000, "batch_count": 64}
    for prompt, much in (("a long olive", endless), ("a first pea", {"steps": 1}), ("a second pea", {"steps": 1})):
        post(address + "/v1/jobs", json={"prompt": prompt, "width": 64, "height": 64, **much})
    page = opened("/queue")
    waiting = page.get_by_role("region", name="Waiting").get_by_role("listitem")
    press(page, "Move a second pea to the front")
    expect(waiting.first).to_contain_text("a second pea")
    press(page, "Cancel a first pea")
    press(page, "Cancel a second pea")
    expect(waiting).to_have_count(0)
    press(page, re.compile("^Cancel a long olive"))
    expect(page.get_by_text("Nothing runs and nothing waits.")).to_be_visible()
    press(page, "Do a first pea again")
    ended = page.get_by_role("region", name="Ended").get_by_role("listitem")
    expect(ended.first.get_by_role("button", name=re.compile("a first pea")).first).to_be_enabled()
    shot(page, "queue-again")
    reach(page, ended.first.get_by_role("button", name="Remove"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    press(page, "Remove")
    expect(page.get_by_text("Removed.")).to_be_visible()


def test_a_thing_is_taught_and_used(opened: Callable[[str], Page], shot: Shot) -> None:
    page = opened("/teach")
    choose(page, "Choose images", *(picture("png", square(colour), colour) for colour in ("purple", "violet")))
    write(page, "Caption of violet.png", "a spoki on a white background")
    write(page, "Word for it", "spoki")
    press(page, "More")
    write(page, "Steps", "2")
    write(page, "Images that keep it from forgetting", "0")
    shot(page, "teach-keyboard")
    press(page, "Start teaching")
    expect(page).to_have_url(re.compile("job="))
    press(page, "Use it now")
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_have_value("<lora:spoki:1> spoki")


def test_a_model_is_converted_merged_and_used(opened: Callable[[str], Page], address: str, shot: Shot) -> None:
    page = opened("/models")
    for name in ("keyed", "keyed too"):
        press(page, re.compile("^embedded"), role="link")
        press(page, "Convert…")
        write(page, "Name of the new model", name)
        shot(page, "models-convert")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=name, level=2)).to_be_visible()
    press(page, "Merge…")
    reach(page, page.get_by_role("slider", name="How much of the second"))
    page.keyboard.press("ArrowLeft")
    write(page, "Name of the new model", "keyed mix")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="keyed mix", level=2)).to_be_visible()
    press(page, "Use this model")
    expect(page.get_by_role("link", name=re.compile("^keyed mix")).get_by_text("in use")).to_be_visible()
    post(f"{address}/v1/models/load", json={"model": "embedded"})


def test_theme_and_language_are_set(opened: Callable[[str], Page], shot: Shot) -> None:
    page = opened("/settings")
    reach(page, page.get_by_role("radio", name="As the system"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    reach(page, page.get_by_role("radio", name="English"))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name="设置", level=1)).to_be_visible()
    shot(page, "settings-chinese")


def test_an_image_steers_beside_a_region_of_its_own(opened: Callable[[str], Page], address: str, shot: Shot) -> None:
    page = opened("/canvas")
    canvas = page.get_by_role("application", name="Canvas")
    expect(canvas).to_be_visible()
    press(page, "Canvases")
    press(page, "New canvas")
    expect(page.get_by_text("A new image in the frame")).to_be_visible()
    choose(page, "Add an image", picture("png", square("black"), "square"))
    press(page, "Steer with it")
    expect(page.get_by_text("The canvas shows the hint.")).to_be_attached()
    press(page, re.compile("^Regions"))
    press(page, "Add a region")
    write(page, "Prompt of Region 1", "a red apple")
    press(page, "More settings")
    write(page, "Steps", "2")
    write(page, "Prompt", "a blue background")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".candidates-at")).to_have_text("1 of 1")
    shot(page, "canvas-keyboard")
    fields = newest(address)["asked"]
    assert fields["controls"][0].startswith("canny:upload:")
    assert fields["regions"][0].endswith(": a red apple")
    press(page, "Take it")
    expect(page.locator(".candidates-at")).to_have_count(0)
