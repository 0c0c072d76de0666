"""Paint: from a prompt to an image, and back to the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from web_server import serve, stop

Shot = Callable[[Page, str], None]


def generated(page: Page, prompt: str) -> None:
    """Asks for an image by a prompt that no other test has, since they share a server, and waits for it."""
    article = page.get_by_role("article", name=prompt)
    expect(article).to_have_count(0)
    page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Generate").click()
    expect(article).to_have_attribute("data-state", "done")


def test_a_prompt_becomes_an_image(page: Page, shot: Shot, accessible: Callable[[Page], None]) -> None:
    generated(page, "a red fox on a blue background")
    image = page.get_by_role("article", name="a red fox on a blue background").locator("img")
    expect(image).to_have_js_property("naturalWidth", 128)
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


def test_tokens_are_counted_and_the_prompt_is_explained(page: Page, shot: Shot) -> None:
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a (red:1.3) [apple:pear:0.5] on a blue background")
    expect(page.get_by_text("7 of 75 tokens")).to_be_visible()
    page.get_by_role("button", name="Explain the prompt").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("[data-weight=more]")).to_have_text("red1.3")
    expect(dialog.get_by_role("listitem")).to_have_text(
        ["to step 10 a (red:1.3) apple on a blue background", "to step 20 a (red:1.3) pear on a blue background"]
    )
    shot(page, "explain")


def test_settings_against_each_other(page: Page, shot: Shot, accessible: Callable[[Page], None]) -> None:
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a red apple on a blue background")
    page.get_by_role("button", name="Compare settings").click()
    across, down = page.get_by_role("group", name="Across (X)"), page.get_by_role("group", name="Down (Y)")
    across.get_by_label("Values").fill("2,6")
    choose(page, down.get_by_role("button"), "Prompt S/R")
    down.get_by_label("Values").fill("red apple,green frog")
    accessible(page)
    page.get_by_role("dialog").get_by_role("button", name="Compare", exact=True).click()
    table = page.get_by_role("table")
    expect(table.get_by_role("columnheader")).to_have_text(["Steps: 2", "Steps: 6"])
    expect(table.locator("td img[src*='/v1/images/']")).to_have_count(4)
    sources = set(table.locator("td img").evaluate_all("images => images.map(image => image.src)"))
    shot(page, "compare")
    page.reload()
    expect(page.get_by_role("table").locator("td img[src*='/v1/images/']")).to_have_count(4)
    again = set(page.get_by_role("table").locator("td img").evaluate_all("images => images.map(image => image.src)"))
    assert again == sources


def choose(page: Page, opener: Locator, option: str) -> None:
    opener.click()
    page.get_by_role("option", name=option, exact=True).click()


def test_an_axis_that_is_none_is_said_where_it_is(page: Page) -> None:
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a red apple")
    page.get_by_role("button", name="Compare settings").click()
    page.get_by_role("group", name="Across (X)").get_by_label("Values").fill("ten")
    page.get_by_role("dialog").get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="steps")).to_be_visible()


def test_what_differs_from_the_default_is_marked_and_can_be_reset(page: Page) -> None:
    steps = page.get_by_role("textbox", name="Steps")
    steps.fill("7")
    steps.press("Tab")
    expect(page.get_by_text("1 changed")).to_be_visible()
    page.get_by_role("button", name="Reset Steps").click()
    expect(page.get_by_text("1 changed")).to_be_hidden()
    expect(steps).to_have_value("")


def test_hires_is_reached_in_a_few_clicks_and_makes_a_larger_image(page: Page) -> None:
    page.get_by_role("button", name="Second pass (hires)").click()
    upscale = page.get_by_role("textbox", name="Hires upscale")
    upscale.fill("2")
    upscale.press("Tab")
    generated(page, "a yellow lemon on a black background")
    image = page.get_by_role("article", name="a yellow lemon on a black background").locator("img").first
    expect(image).to_have_js_property("naturalWidth", 256)


def test_an_image_and_back_by_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_be_focused()
    page.keyboard.type("a blue fish on a white background")
    page.keyboard.press("Control+Enter")
    article = page.get_by_role("article", name="a blue fish on a white background").first
    expect(article).to_have_attribute("data-state", "done")
    while not article.get_by_role("button").first.evaluate("button => button === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_text("Steps: 20")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(article.get_by_role("button").first).to_be_focused()


def test_a_variation_of_an_image_is_asked_for_with_its_seed(page: Page) -> None:
    generated(page, "an orange cat on a green background")
    page.get_by_role("article", name="an orange cat on a green background").get_by_role("button").first.click()
    page.get_by_role("button", name="Vary it").click()
    expect(page).to_have_url(re.compile(r"seed=\d+&variation_strength=0.15"))


def test_another_tab_shows_what_this_one_asked_for(page: Page, context: BrowserContext) -> None:
    other = context.new_page()
    other.goto(page.url)
    generated(page, "a purple grape on a yellow background")
    other.reload()
    article = other.get_by_role("article", name="a purple grape on a yellow background").first
    expect(article.locator("img")).to_be_visible()


def test_it_speaks_chinese_and_fits_a_phone(
    chromium: Browser, address: str, shot: Shot, accessible: Callable[[Page], None]
) -> None:
    phone = chromium.new_context(viewport={"width": 390, "height": 844}, locale="zh-CN", color_scheme="dark")
    page = phone.new_page()
    page.goto(address)
    expect(page.get_by_role("button", name="生成")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    accessible(page)
    shot(page, "phone")
    phone.close()


def test_a_server_that_is_away_is_said_and_what_was_typed_is_kept(
    context: BrowserContext, tmp_path: Path, shot: Shot
) -> None:
    process, url = serve(tmp_path / "data")
    page = context.new_page()
    page.goto(url)
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    prompt.fill("a red apple")
    stop(process)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert").filter(has_text="does not answer")).to_be_visible()
    shot(page, "away")
    expect(prompt).to_have_value("a red apple")
    process, _ = serve(tmp_path / "data", port=int(url.rpartition(":")[2]))
    expect(page.get_by_role("article", name="a red apple").first).to_have_attribute("data-state", "done")
    expect(page.get_by_text("does not answer")).to_be_hidden()
    stop(process)
