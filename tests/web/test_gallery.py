"""The gallery: ten thousand images found, collected, compared, taken elsewhere, thrown away and restored."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from fakes.live import wait_for
from fakes.many_images import make
from serving import serving

Shot = Callable[[Page, str], None]
Check = Callable[[Page], None]
MANY = 10_000
BLANK = """list => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => {
    const box = list.getBoundingClientRect();
    let blank = 0;
    const tile = (x, y) => document.elementFromPoint(x, y)?.closest('.tile');
    for (let y = box.top + 30; y < box.bottom - 30; y += 40)
        for (let x = box.left + 30; x < box.right - 30; x += 40)
            if (![0, 12].some(right => [0, 12].some(down => tile(x + right, y + down)))) blank += 1;
    done(blank);
})))"""
"""How many places of the list show no image, two frames later: each is wider than what is between two images."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with so many images."""
    folder = tmp_path_factory.mktemp("many")
    make(folder / "data", MANY)
    with serving(folder, ready=False) as server:
        yield server.url


@pytest.fixture
def gallery(context: BrowserContext, many: str) -> Page:
    opened = context.new_page()
    opened.goto(f"{many}/gallery")
    tile(opened, 0).locator("img").wait_for()
    return opened


def images(page: Page) -> Locator:
    return page.get_by_role("listbox", name="Images")


def tile(page: Page, at: int) -> Locator:
    return page.locator(f"#image-{at}")


def name(page: Page, at: int) -> str:
    return tile(page, at).get_attribute("aria-label") or ""


def loaded(page: Page) -> None:
    """Waits for all thumbnails that are there."""
    there = "[...document.querySelectorAll('.tile img')].every(image => image.complete && image.naturalWidth > 0)"
    wait_for(lambda: page.evaluate(there))


def test_images_are_found_by_words_and_fields(gallery: Page, shot: Shot, accessible: Check) -> None:
    expect(gallery.get_by_text("10,000 images")).to_be_visible()
    loaded(gallery)
    shot(gallery, "gallery")
    accessible(gallery)
    search = gallery.get_by_role("searchbox", name="Search")
    search.press_sequentially("moon sampler:heun", delay=60)
    expect(gallery.get_by_text("1,250 images")).to_be_visible()
    expect(search).to_be_focused()
    expect(gallery).to_have_url(re.compile(r"\?q=moon\+sampler%3Aheun$"))
    expect(tile(gallery, 0)).to_have_attribute("aria-label", re.compile("moon"))
    gallery.reload()
    expect(gallery.get_by_text("1,250 images")).to_be_visible()
    expect(gallery.get_by_role("searchbox", name="Search")).to_have_value("moon sampler:heun")
    gallery.get_by_role("button", name="How to search").click()
    gallery.get_by_role("button", name="seed:7").click()
    expect(gallery.get_by_text("Nothing fits this search.")).to_be_visible()
    gallery.keyboard.press("Escape")
    gallery.get_by_role("button", name="Show all").last.click()
    expect(gallery.get_by_text("10,000 images")).to_be_visible()


def test_a_letter_that_is_typed_is_searched_for_at_once(gallery: Page) -> None:
    gallery.clock.install()
    gallery.clock.pause_at("2100-01-01")
    with gallery.expect_request(re.compile(r"/v1/images\?.*q=mo(&|$)")):
        gallery.get_by_role("searchbox", name="Search").press_sequentially("mo")
        gallery.clock.run_for(5)
    gallery.clock.resume()
    expect(gallery.get_by_text("2,500 images")).to_be_visible()
    expect(gallery).to_have_url(re.compile(r"\?q=mo$"))
    listed = images(gallery)
    listed.evaluate("list => { list.scrollTop = list.scrollHeight }")
    gallery.get_by_role("searchbox", name="Search").press_sequentially("o")
    expect(gallery.get_by_text("1,250 images")).to_be_visible()
    expect(listed).to_have_js_property("scrollTop", 0)
    expect(listed).to_have_attribute("aria-busy", "false")
    expect(tile(gallery, 0)).to_have_attribute("aria-label", re.compile("moon"))


def test_ten_thousand_images_scroll_without_blank_rows(gallery: Page) -> None:
    listed = images(gallery)
    height = listed.evaluate("list => list.scrollHeight")
    assert height > MANY / 8 * 100
    for part in (0.02, 0.021, 0.5, 0.98, 1.0, 0.3, 0.0):
        listed.evaluate(f"list => {{ list.scrollTop = {part} * (list.scrollHeight - list.clientHeight) }}")
        assert listed.evaluate(BLANK) == 0, part
    assert gallery.locator(".tile").count() < 200
    listed.focus()
    gallery.keyboard.press("End")
    expect(tile(gallery, MANY - 1)).to_have_attribute("aria-label", re.compile("apple before a blue"))
    expect(listed).to_have_attribute("aria-activedescendant", f"image-{MANY - 1}")
    gallery.keyboard.press("Home")
    expect(tile(gallery, 0).locator("img")).to_be_visible()


def test_images_are_selected_by_mouse_and_by_keys(gallery: Page, shot: Shot, accessible: Check) -> None:
    tile(gallery, 1).click(modifiers=["Control"])
    tile(gallery, 4).click(modifiers=["Shift"])
    expect(gallery.get_by_text("4 selected")).to_be_visible()
    tile(gallery, 2).click()
    expect(gallery.get_by_text("3 selected")).to_be_visible()
    loaded(gallery)
    shot(gallery, "gallery-selection")
    accessible(gallery)
    images(gallery).focus()
    for key in ("Escape", "Home", "ArrowRight", "Space", "Shift+ArrowRight", "Shift+ArrowDown"):
        gallery.keyboard.press(key)
    columns = gallery.locator(".gallery-row").first.locator(".tile").count()
    expect(gallery.get_by_text(f"{columns + 2} selected")).to_be_visible()
    gallery.keyboard.press("Control+a")
    expect(gallery.get_by_text("1000 selected")).to_be_visible()
    expect(gallery.get_by_text("At most 1000 images are selected at once.")).to_be_visible()


def test_what_is_deleted_comes_back(gallery: Page) -> None:
    first, second = name(gallery, 0), name(gallery, 1)
    gallery.get_by_role("button", name="Starred").click()
    expect(gallery).to_have_url(re.compile("starred=1"))
    gallery.get_by_role("button", name="All images").click()
    images(gallery).focus()
    gallery.keyboard.press("Home")
    gallery.keyboard.press("Delete")
    expect(gallery.get_by_text("1 deleted.")).to_be_visible()
    expect(tile(gallery, 0)).to_have_attribute("aria-label", second)
    gallery.get_by_role("button", name="Trash").click()
    expect(tile(gallery, 0)).to_have_attribute("aria-label", first)
    gallery.get_by_role("button", name="Undo").click()
    expect(gallery.get_by_text("The trash is empty.")).to_be_visible()
    gallery.get_by_role("button", name="All images").click()
    expect(tile(gallery, 0)).to_have_attribute("aria-label", first)


def test_a_board_takes_images_and_a_second_page_sees_it(gallery: Page, many: str) -> None:
    other = gallery.context.new_page()
    other.goto(f"{many}/gallery")
    tile(other, 0).wait_for()
    gallery.get_by_role("button", name="New board").click()
    gallery.get_by_role("textbox", name="Name of the board").fill("Fruit & moons")
    gallery.keyboard.press("Enter")
    for at in (0, 2):
        tile(gallery, at).click(modifiers=["Control"])
    gallery.get_by_role("button", name="Put on a board").click()
    gallery.get_by_role("menuitem", name="Fruit & moons").click()
    expect(gallery.get_by_text("2 put on Fruit & moons.")).to_be_visible()
    gallery.get_by_role("button", name="Clear the selection").click()
    expect(images(gallery)).to_be_focused()
    expect(other.get_by_role("button", name="Fruit & moons 2")).to_be_visible()
    other.get_by_role("button", name="Fruit & moons 2").click()
    expect(other.get_by_text("2 images", exact=True)).to_be_visible()
    images(other).focus()
    other.keyboard.press("Home")
    other.keyboard.press("s")
    expect(tile(gallery, 0)).to_have_attribute("aria-label", re.compile("starred"))
    gallery.get_by_role("button", name="Change Fruit & moons").click()
    gallery.get_by_role("button", name="Remove the board").click()
    expect(other.get_by_role("button", name="Fruit & moons 2")).to_have_count(0)
    with gallery.expect_response(re.compile("/v1/images/unstar$")):  # or it would be starred for the next test
        tile(gallery, 0).locator("[data-star]").click(force=True)
    expect(tile(gallery, 0)).not_to_have_attribute("aria-label", re.compile("starred"))


def test_an_image_is_looked_at_and_its_settings_go_to_paint(gallery: Page, shot: Shot, accessible: Check) -> None:
    images(gallery).focus()
    gallery.keyboard.press("Home")
    gallery.keyboard.press("Enter")
    dialog = gallery.get_by_role("dialog")
    expect(dialog.get_by_role("definition").filter(has_text=re.compile("^10999$"))).to_be_visible()
    expect(gallery).to_have_url(re.compile("image=[0-9a-f]{32}"))
    shot(gallery, "gallery-image")
    accessible(gallery)
    dialog.get_by_role("button", name="Put on a board").click()
    gallery.get_by_role("menuitem", name="New board").click()
    expect(gallery.get_by_role("status").filter(has_text="1 put on New board")).to_be_visible()
    expect(dialog).to_be_visible()
    gallery.keyboard.press("Escape")
    expect(images(gallery)).to_be_focused()
    gallery.keyboard.press("Enter")
    gallery.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("definition").filter(has_text=re.compile("^10998$"))).to_be_visible()
    gallery.go_back()
    expect(dialog).to_have_count(0)
    gallery.go_forward()
    expect(dialog.get_by_role("definition").filter(has_text=re.compile("^10998$"))).to_be_visible()
    gallery.reload()
    prompt = dialog.get_by_role("definition").first.text_content() or ""
    dialog.get_by_role("button", name="Use these settings").click()
    expect(gallery.get_by_role("textbox", name="Prompt", exact=True)).to_have_value(prompt)
    expect(gallery).to_have_url(re.compile("seed=10998"))


def test_two_images_are_compared(gallery: Page, shot: Shot, accessible: Check) -> None:
    for at in (0, 3):
        tile(gallery, at).click(modifiers=["Control"])
    gallery.get_by_role("button", name="Compare").click()
    dialog = gallery.get_by_role("dialog", name="Compare two images")
    expect(dialog.get_by_role("row", name="Seed 10999 10996")).to_be_visible()
    slider = dialog.get_by_role("slider", name="Where the images meet")
    over = dialog.locator(".compare-over")
    before = over.evaluate("part => getComputedStyle(part).clipPath")
    slider.focus()
    gallery.keyboard.press("End")
    assert over.evaluate("part => getComputedStyle(part).clipPath") != before
    gallery.keyboard.press("Home")
    slider.fill("50")
    shot(gallery, "gallery-compare")
    accessible(gallery)
    gallery.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


def test_images_are_taken_along_as_a_zip(gallery: Page, tmp_path: Path) -> None:
    for at in (0, 1, 2):
        tile(gallery, at).click(modifiers=["Control"])
    with gallery.expect_download() as coming:
        gallery.get_by_role("button", name="Download as zip").click()
    coming.value.save_as(tmp_path / "images.zip")
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        assert archive.testzip() is None
        assert [re.sub("-[0-9a-f]{8}", "", file) for file in archive.namelist()] == [
            "0001-10999.png",
            "0002-10998.png",
            "0003-10997.png",
        ]


def test_images_are_taken_to_teach(gallery: Page) -> None:
    first, second = name(gallery, 0), name(gallery, 1)
    for at in (0, 1):
        tile(gallery, at).click(modifiers=["Control"])
    gallery.get_by_role("button", name="Teach with them").click()
    for prompt in (first, second):
        expect(gallery.locator(f"table.captions input[value='{prompt}']").first).to_be_visible()


def test_a_phone_shows_three_beside_each_other(gallery: Page, shot: Shot, accessible: Check) -> None:
    gallery.set_viewport_size({"width": 390, "height": 844})
    expect(gallery.locator(".gallery-row").first.locator(".tile")).to_have_count(3)
    assert gallery.evaluate("document.documentElement.scrollWidth") <= 390
    loaded(gallery)
    shot(gallery, "gallery-phone")
    accessible(gallery)
