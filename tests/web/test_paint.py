"""Paint: from a prompt to an image, and back to the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

Shot = Callable[[Page, str], None]


def generated(page: Page, prompt: str) -> None:
    """Asks for an image and waits for it."""
    page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("article", name=prompt).first).to_have_attribute("data-state", "done")


def test_a_prompt_becomes_an_image(page: Page, shot: Shot, accessible: Callable[[Page], None]) -> None:
    generated(page, "a red apple on a blue background")
    image = page.get_by_role("article").first.locator("img")
    assert image.evaluate("image => image.naturalWidth") == 128
    shot(page, "paint")
    accessible(page)


def test_a_reload_keeps_what_was_typed_and_what_was_made(page: Page) -> None:
    generated(page, "a green pear on a white background")
    page.get_by_role("textbox", name="Negative prompt").fill("blurry")
    expect(page).to_have_url(re.compile("negative_prompt=blurry"))
    page.reload()
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_have_value("a green pear on a white background")
    expect(page.get_by_role("textbox", name="Negative prompt")).to_have_value("blurry")
    expect(page.get_by_role("article", name="a green pear on a white background").first.locator("img")).to_be_visible()


def test_a_word_is_weighed_by_keys(page: Page) -> None:
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    prompt.fill("a red apple")
    prompt.press("End")
    prompt.press("Control+ArrowUp")
    prompt.press("Control+ArrowUp")
    expect(prompt).to_have_value("a red (apple:1.2)")
