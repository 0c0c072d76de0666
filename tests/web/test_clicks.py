"""What people do most, in no more presses than A1111's own screens take (docs/studio.md has both counts)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, expect

from fakes.live import get, wait_for

COUNT = "window.presses = 0; addEventListener('pointerdown', () => { window.presses += 1; }, true)"


@contextmanager
def at_most(page: Page, presses: int) -> Iterator[None]:
    """Counts what a pointer presses in the page, over changes of the screen."""
    page.evaluate(COUNT)
    yield
    assert page.evaluate("window.presses") <= presses


def typed(page: Page, prompt: str) -> None:
    page.get_by_role("textbox", name="Prompt", exact=True).click()
    page.keyboard.type(prompt)


def done(page: Page, prompt: str) -> None:
    expect(page.get_by_role("article", name=prompt).first).to_have_attribute("data-state", "done")


def test_text_to_image_with_hires_takes_three(page: Page) -> None:
    with at_most(page, 3):
        typed(page, "a white owl on a brown background")
        page.get_by_role("button", name="Twice as large (hires)").click()
        page.get_by_role("button", name="Generate").click()
        done(page, "a white owl on a brown background")
    image = page.get_by_role("article", name="a white owl on a brown background").locator("img").first
    expect(image).to_have_js_property("naturalWidth", 256)


def test_painting_a_part_of_an_image_anew_takes_three(page: Page, address: str) -> None:
    typed(page, "a red crab on a blue background")
    page.keyboard.press("Control+Enter")
    done(page, "a red crab on a blue background")
    with at_most(page, 3):
        page.get_by_role("link", name="Edit on the canvas").first.click()
        board = page.get_by_role("application")
        expect(board).to_be_visible()
        expect(page).to_have_url(re.compile("canvas.id="))
        page.keyboard.press("b")
        box = board.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2 + 30, box["y"] + box["height"] / 2 + 10, steps=4)
        page.mouse.up()
        page.get_by_role("button", name="Generate").click()
        wait_for(lambda: "mask" in newest(address)["asked"])


def newest(address: str) -> dict[str, Any]:
    """The job that was asked for last."""
    return get(address + "/v1/jobs?limit=1").json()["data"][0]


def test_a_plot_of_two_axes_takes_six(page: Page) -> None:
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a red apple")
    with at_most(page, 6):
        page.get_by_role("button", name="Compare settings").click()
        page.get_by_role("group", name="Across (X)").get_by_label("Values").click()
        page.keyboard.type("2,4")
        down = page.get_by_role("group", name="Down (Y)")
        down.get_by_role("button").click()
        page.get_by_role("option", name="CFG scale", exact=True).click()
        down.get_by_label("Values").click()
        page.keyboard.type("1,3")
        page.get_by_role("dialog").get_by_role("button", name="Compare", exact=True).click()
        expect(page.get_by_role("table").locator("td img")).to_have_count(4)


def test_a_lora_is_taught_from_files_in_three(page: Page, tmp_path: Path) -> None:
    files = []
    for number, colour in enumerate(((200, 30, 160), (180, 40, 170), (210, 20, 150))):
        Image.new("RGB", (128, 128), colour).save(tmp_path / f"{number}.png")
        files.append(tmp_path / f"{number}.png")
    with at_most(page, 3):
        page.get_by_role("link", name="Teach").click()
        expect(page).to_have_url(re.compile("/teach$"))
        page.locator("input[type=file][multiple]").set_input_files(files)
        page.get_by_role("button", name="Start teaching").click()
        expect(page).to_have_url(re.compile("teach.job="))
    page.get_by_role("button", name="Stop").click()
