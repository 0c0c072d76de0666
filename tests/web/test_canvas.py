"""The canvas: parts of images made anew and more around them, taken or left, undone, and kept on the server."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import BrowserContext, Locator, Page, expect

from fakes.live import get, post, wait_for

Shot = Callable[[Page, str], None]
Axe = Callable[[Page], None]
Fields = dict[str, Any]
SIDE = 128
REACH = 10
"""How far a soft edge of 4 pixels goes: its Gaussian is cut off at 2.5 sigma."""


@pytest.fixture(scope="session")
def apple(address: str) -> str:
    """The id of an image of a job."""
    fields = {"prompt": "a red apple on a blue background", "seed": 7, "steps": 8}
    job = post(address + "/v1/jobs", json=fields).json()["id"]
    wait_for(lambda: _job(address, job)["state"] == "done")
    return str(_job(address, job)["images"][0]["id"])


def _job(address: str, job_id: str) -> Fields:
    return get(f"{address}/v1/jobs/{job_id}").json()


@pytest.fixture
def canvas(context: BrowserContext, address: str, apple: str) -> Page:
    """A canvas with the image of an apple, for which few steps are taken."""
    page = context.new_page()
    page.goto(f"{address}/canvas?image={apple}")
    expect(board(page)).to_be_visible()
    expect(page).to_have_url(re.compile(r"/canvas\?id=[0-9a-f]{32}$"))
    few_steps(page)
    return page


def few_steps(page: Page) -> None:
    fold = page.get_by_role("button", name="More settings")
    fold.click()
    steps = page.get_by_role("textbox", name="Steps", exact=True)
    steps.fill("6")
    steps.press("Tab")
    fold.click()


def board(page: Page) -> Locator:
    return page.get_by_role("application", name="Canvas")


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the canvas is seen: a look at the frame first, whose place is known then."""
    frame, view = kept(page)["frame"], board(page).bounding_box()
    assert view is not None
    room = 0.7
    scale = min(view["width"] * room / frame["width"], view["height"] * room / frame["height"], 6)
    middle = frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2
    across, down = view["x"] + view["width"] / 2, view["y"] + view["height"] / 2
    return across + (x - middle[0]) * scale, down + (y - middle[1]) * scale


def drag(page: Page, *points: tuple[float, float]) -> None:
    """The pointer goes over points of the canvas, pressed."""
    board(page).press("0")
    first, *others = (at(page, *point) for point in points)
    page.mouse.move(*first)
    page.mouse.down()
    for point in others:
        page.mouse.move(*point, steps=4)
    page.mouse.up()


def kept(page: Page) -> Fields:
    """The document, once it is on the server."""
    expect(page.locator("[data-saving]")).to_have_attribute("data-saving", "kept")
    found = page.request.get(f"{_origin(page)}/v1/canvases/{page.url.partition('id=')[2]}")
    return found.json()["document"]


def _origin(page: Page) -> str:
    return page.url.partition("/canvas")[0]


def image_of(page: Page, layer: Fields) -> Image.Image:
    answer = page.request.get(f"{_origin(page)}/v1/uploads/{layer['image'].removeprefix('upload:')}")
    return Image.open(io.BytesIO(answer.body()))


def flat(page: Page, document: Fields, size: tuple[int, int]) -> np.ndarray:
    """What is seen of the layers, over each other, from the origin on."""
    ground = Image.new("RGBA", size)
    for layer in document["layers"]:
        ground.alpha_composite(image_of(page, layer).convert("RGBA"), (layer["box"]["x"], layer["box"]["y"]))
    return np.asarray(ground.convert("RGB"), np.int16)


def generate(page: Page, prompt: str) -> None:
    """Asks with a prompt, and waits for the first candidate."""
    page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Generate", exact=True).click()
    expect(page.get_by_role("button", name="Take it")).to_be_visible()


def take(page: Page) -> None:
    page.get_by_role("button", name="Take it").click()
    expect(page.get_by_role("region", name="Candidates")).to_have_count(0)


def asked(page: Page) -> Fields:
    """What the newest job was asked for."""
    jobs = page.request.get(f"{_origin(page)}/v1/jobs?limit=5").json()["data"]
    return next(job["asked"] for job in jobs if job["kind"] == "generate")


def test_the_brush_says_what_is_made_anew_and_nothing_else_changes(canvas: Page, shot: Shot, accessible: Axe) -> None:
    before = flat(canvas, kept(canvas), (SIDE, SIDE))
    board(canvas).press("b")
    for _ in range(3):
        board(canvas).press("]")
    line = [(40.0, 70.0), (88.0, 70.0)]
    drag(canvas, *line)
    expect(canvas.locator(".canvas-way")).to_have_text("Anew where the mask is")
    shot(canvas, "canvas-mask")
    [stroke] = kept(canvas)["strokes"]
    assert (stroke["kind"], stroke["size"]) == ("paint", 42)
    generate(canvas, "a green frog on a blue background")
    shot(canvas, "canvas-inpaint")
    accessible(canvas)
    take(canvas)
    document = kept(canvas)
    after = flat(canvas, document, (SIDE, SIDE))
    assert document["strokes"] == []
    changed = np.any(before != after, axis=2)
    reached = np.asarray(_line(line, stroke["size"] + 2 * REACH + 4))
    assert not changed[reached == 0].any()
    assert changed[np.asarray(_line(line, stroke["size"] - 4)) > 0].mean() > 0.9
    assert (asked(canvas)["denoising_strength"], asked(canvas)["mask_blur"]) == (0.75, 4)


def _line(points: list[tuple[float, float]], width: int) -> Image.Image:
    """A brush's line, a little wider than it is: the pointer is moved in whole pixels of the screen."""
    drawn = Image.new("L", (SIDE, SIDE))
    pen, half = ImageDraw.Draw(drawn), width / 2
    pen.line(points, 255, width)
    for x, y in points:
        pen.ellipse((x - half, y - half, x + half, y + half), 255)
    return drawn


def test_a_frame_that_reaches_beyond_the_image_goes_on_there(canvas: Page, shot: Shot) -> None:
    before = flat(canvas, kept(canvas), (SIDE, SIDE))
    drag(canvas, (64, 64), (96, 64))
    assert kept(canvas)["frame"] == {"x": 32, "y": 0, "width": SIDE, "height": SIDE}
    expect(canvas.locator(".canvas-way")).to_have_text("Goes on where the frame is empty")
    generate(canvas, "a red apple on a blue background")
    shot(canvas, "canvas-outpaint")
    take(canvas)
    document = kept(canvas)
    first, second = document["layers"]
    assert second["box"] == {"x": 32, "y": 0, "width": SIDE, "height": SIDE}
    alpha = np.asarray(image_of(canvas, second).convert("RGBA"))[:, :, 3]
    assert (alpha[:, :94] == 0).all()
    assert (alpha[:, 94:] == 255).all()
    assert (flat(canvas, document, (160, SIDE))[:, :SIDE] == before).all()
    assert asked(canvas)["outpaint"] == "left=0,right=32,top=0,bottom=0"
    assert first["image"] != second["image"]


def test_edges_and_corners_of_the_frame_are_dragged_in_steps_of_eight(canvas: Page, shot: Shot) -> None:
    drag(canvas, (128, 128), (170, 141))
    assert kept(canvas)["frame"] == {"x": 0, "y": 0, "width": 168, "height": 144}
    board(canvas).press("Control+z")
    drag(canvas, (128, 64), (161, 64))
    drag(canvas, (0, 64), (-33, 64))
    assert kept(canvas)["frame"] == {"x": -32, "y": 0, "width": 192, "height": SIDE}
    generate(canvas, "a red apple on a blue background")
    shot(canvas, "canvas-outpaint")
    assert asked(canvas)["outpaint"] == "left=32,right=32,top=0,bottom=0"


def test_regions_are_boxes_with_prompts_of_their_own(canvas: Page, shot: Shot, accessible: Axe) -> None:
    board(canvas).press("r")
    drag(canvas, (-10, -10), (64, 128))
    drag(canvas, (150, -8), (64, 128))
    canvas.get_by_role("button", name=re.compile("^Regions")).click()
    canvas.get_by_role("textbox", name="Prompt of Region 1").fill("a red apple")
    canvas.get_by_role("textbox", name="Prompt of Region 2").fill("a green frog")
    shot(canvas, "canvas-regions")
    accessible(canvas)
    generate(canvas, "a blue background")
    first, second = asked(canvas)["regions"]
    assert first.endswith(": a red apple")
    assert second.endswith(": a green frog")
    assert _box(first) == pytest.approx([0, 0, 0.5, 1], abs=0.01)
    assert _box(second) == pytest.approx([0.5, 0, 1, 1], abs=0.01)


def _box(region: str) -> list[float]:
    return [float(value) for value in region.partition(":")[0].removeprefix("box=").split(",")]


def test_everything_is_undone_and_redone(canvas: Page) -> None:
    start = kept(canvas)
    board(canvas).press("b")
    drag(canvas, (40, 40), (80, 40))
    board(canvas).press("e")
    drag(canvas, (60, 30), (60, 50))
    board(canvas).press("f")
    board(canvas).press("ArrowRight")
    board(canvas).press("ArrowRight")
    canvas.get_by_role("button", name=re.compile("^Hide")).click()
    end = kept(canvas)
    assert [stroke["kind"] for stroke in end["strokes"]] == ["paint", "erase"]
    assert (end["frame"]["x"], end["layers"][0]["visible"]) == (16, False)
    board(canvas).press("Control+z")
    assert kept(canvas)["layers"] == start["layers"]
    board(canvas).press("Control+z")
    assert kept(canvas)["frame"] == start["frame"]
    for _ in range(2):
        board(canvas).press("Control+z")
    assert kept(canvas) == start
    for _ in range(4):
        board(canvas).press("Control+Shift+z")
    assert kept(canvas) == end


def test_candidates_are_stepped_through_before_one_is_taken(canvas: Page, shot: Shot) -> None:
    count = canvas.get_by_role("slider", name="Candidates")
    count.press("ArrowRight")
    generate(canvas, "a green frog on a blue background")
    place = canvas.locator(".candidates-at")
    expect(place).to_have_text("1 of 2")
    shot(canvas, "canvas-candidates")
    board(canvas).press("ArrowRight")
    expect(place).to_have_text("2 of 2")
    canvas.get_by_role("button", name="Leave them").click()
    expect(place).to_have_count(0)
    assert kept(canvas)["pending"] == []
    canvas.get_by_role("button", name="Undo", exact=True).last.click()
    expect(place).to_have_text("2 of 2")
    board(canvas).press("Enter")
    expect(place).to_have_count(0)
    document = kept(canvas)
    made = canvas.request.get(f"{_origin(canvas)}/v1/jobs?limit=1").json()["data"][0]["images"]
    file = canvas.request.get(_origin(canvas) + made[1]["url"]).body()
    taken = np.asarray(image_of(canvas, document["layers"][1]).convert("RGB"))
    assert (taken == np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))).all()
    board(canvas).press("Control+z")
    assert len(kept(canvas)["layers"]) == 1


def test_a_reload_in_the_middle_of_a_job_loses_nothing(canvas: Page) -> None:
    board(canvas).press("b")
    drag(canvas, (40, 40), (80, 40))
    canvas.get_by_role("textbox", name="Name of the canvas").fill("Still life")
    canvas.get_by_role("textbox", name="Prompt", exact=True).fill("a green frog")
    canvas.get_by_role("button", name="Generate", exact=True).click()
    expect(canvas.get_by_role("region", name="Candidates")).to_be_visible()
    before = kept(canvas)
    canvas.reload()
    expect(canvas.get_by_role("textbox", name="Prompt", exact=True)).to_have_value("a green frog")
    assert kept(canvas) == before
    assert len(before["strokes"]) == len(before["pending"]) == 1
    expect(canvas.get_by_role("button", name="Take it")).to_be_visible()
    canvas.goto(_origin(canvas) + "/canvas")
    expect(canvas.get_by_role("textbox", name="Name of the canvas")).to_have_value("Still life")


def test_what_another_tab_changes_is_taken_over(canvas: Page, context: BrowserContext) -> None:
    other = context.new_page()
    other.goto(canvas.url)
    expect(board(other)).to_be_visible()
    canvas.get_by_role("textbox", name="Prompt", exact=True).fill("from the first tab")
    kept(canvas)
    other.get_by_role("textbox", name="Name of the canvas").fill("from the second tab")
    expect(other.get_by_role("textbox", name="Prompt", exact=True)).to_have_value("from the first tab")
    assert kept(other)["settings"]["prompt"] == "from the first tab"


def test_the_keyboard_alone_paints_generates_and_takes(context: BrowserContext, address: str, apple: str) -> None:
    page = context.new_page()
    page.goto(f"{address}/canvas?image={apple}")
    expect(board(page)).to_be_visible()
    keys = page.keyboard
    for _ in range(30):
        if board(page).evaluate("element => element === document.activeElement"):
            break
        keys.press("Tab")
    expect(board(page)).to_be_focused()
    keys.press("Shift+ArrowRight")
    keys.press("Alt+ArrowDown")
    keys.press("Control+z")
    keys.press("Control+z")
    keys.press("b")
    keys.press("Enter")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        keys.press(key)
    keys.press("Enter")
    keys.press("l")
    for key in ("Enter", "Shift+ArrowLeft", "Shift+ArrowUp", "Enter"):
        keys.press(key)
    document = kept(page)
    assert [stroke["kind"] for stroke in document["strokes"]] == ["paint", "area"]
    assert len(document["strokes"][0]["points"].split()) == 8
    assert document["frame"] == {"x": 0, "y": 0, "width": SIDE, "height": SIDE}
    keys.press("Control+Enter")
    expect(page.locator(".candidates-at")).to_have_text("1 of 1")
    keys.press("Enter")
    expect(page.locator(".candidates-at")).to_have_count(0)
    keys.press("v")
    keys.press("ArrowRight")
    assert kept(page)["layers"][1]["box"]["x"] == 8
    keys.press("Delete")
    assert len(kept(page)["layers"]) == 1


def test_an_image_steers_and_its_hint_is_shown(canvas: Page, tmp_path: Path, shot: Shot, accessible: Axe) -> None:
    drawing = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(drawing).rectangle((30, 30, 90, 90), "black")
    drawing.save(tmp_path / "square.png")
    with canvas.expect_file_chooser() as chooser:
        canvas.get_by_role("button", name="Add an image").click()
    chooser.value.set_files(tmp_path / "square.png")
    expect(canvas.get_by_role("textbox", name="Name of the layer")).to_have_value("square")
    canvas.get_by_role("button", name="Steer with it").click()
    expect(canvas.get_by_text("The canvas shows the hint.")).to_be_attached()
    shot(canvas, "canvas-control")
    accessible(canvas)
    job = next(j for j in canvas.request.get(f"{_origin(canvas)}/v1/jobs").json()["data"] if j["kind"] == "annotate")
    edges = Image.open(io.BytesIO(canvas.request.get(_origin(canvas) + job["images"][0]["url"]).body())).convert("L")
    assert 100 < (np.asarray(edges) > 0).sum() < 1000
    generate(canvas, "a red apple")
    fields = asked(canvas)
    [control] = fields["controls"]
    assert control.startswith("canny:upload:")
    made = canvas.request.get(f"{_origin(canvas)}/v1/jobs?limit=1").json()["data"][0]["images"][0]
    shot(canvas, "canvas-control-made")
    with_it, without = (again(canvas, {**fields, "seed": made["seed"], "controls": steer}) for steer in ([control], []))
    assert with_it == made["sha256"] != without
    take(canvas)
    canvas.get_by_role("button", name=re.compile("^square")).click()
    canvas.get_by_role("button", name=re.compile("^Control")).click()
    canvas.get_by_role("option", name="Scribble", exact=True).click()
    canvas.get_by_role("button", name="Generate", exact=True).click()
    expect(canvas.locator(".toast-bad")).to_contain_text("there is no network of this type")
    assert json.dumps(kept(canvas)).count('"type": "scribble"') == 1


def again(page: Page, fields: Fields) -> str:
    """The SHA-256 of the image that a request makes."""
    job = page.request.post(f"{_origin(page)}/v1/jobs", data=fields).json()["id"]
    wait_for(lambda: _job(_origin(page), job)["state"] == "done")
    return str(_job(_origin(page), job)["images"][0]["sha256"])


def test_the_view_is_moved_and_zoomed_and_a_part_is_saved(canvas: Page) -> None:
    scale = canvas.locator(".canvas-scale")
    board(canvas).press("0")
    before = scale.inner_text()
    board(canvas).press("-")
    wait_for(lambda: float(scale.inner_text().split()[0]) < float(before.split()[0]))
    x, y = at(canvas, 64, 64)
    board(canvas).press("0")
    canvas.mouse.move(x, y)
    canvas.mouse.wheel(0, -300)
    expect(scale).not_to_have_text(before)
    board(canvas).press("0")
    board(canvas).press("v")
    canvas.keyboard.down(" ")
    canvas.mouse.down()
    canvas.mouse.move(x + 50, y, steps=2)
    canvas.mouse.up()
    canvas.keyboard.up(" ")
    document = kept(canvas)
    assert document["layers"][0]["box"]["x"] == 0
    canvas.get_by_role("button", name="Save as PNG").click()
    with canvas.expect_download() as saved:
        canvas.get_by_role("menuitem", name="What is in the frame").click()
    file = Image.open(saved.value.path())
    assert (np.asarray(file.convert("RGB")) == flat(canvas, document, (SIDE, SIDE))).all()


def test_layers_are_named_ordered_hidden_and_removed(canvas: Page, shot: Shot) -> None:
    canvas.get_by_role("button", name=re.compile("^a red apple")).click()
    canvas.get_by_role("textbox", name="Name of the layer").fill("Apple")
    canvas.get_by_role("slider", name="Opacity").press("ArrowLeft")
    [layer] = kept(canvas)["layers"]
    assert (layer["name"], layer["opacity"]) == ("Apple", 0.99)
    shot(canvas, "canvas-layers")
    board(canvas).press("v")
    board(canvas).press("ArrowDown")
    assert kept(canvas)["layers"][0]["box"]["y"] == 8
    canvas.get_by_role("button", name="Remove: Apple").click()
    assert kept(canvas)["layers"] == []
    expect(canvas.locator(".canvas-way")).to_have_text("A new image in the frame")


def test_the_other_canvases_are_listed_opened_and_removed(canvas: Page) -> None:
    canvas.get_by_role("textbox", name="Name of the canvas").fill("First of two")
    kept(canvas)
    canvas.get_by_role("button", name="Canvases").click()
    canvas.get_by_role("button", name="New canvas").click()
    expect(canvas.get_by_role("textbox", name="Name of the canvas")).to_have_value("")
    canvas.get_by_role("textbox", name="Prompt", exact=True).fill("another")
    kept(canvas)
    canvas.get_by_role("button", name="Canvases").click()
    canvas.get_by_role("button", name=re.compile("^First of two")).click()
    expect(canvas.get_by_role("textbox", name="Name of the canvas")).to_have_value("First of two")
    canvas.get_by_role("button", name="Canvases").click()
    canvas.get_by_role("button", name="Remove: Untitled canvas").first.click()
    expect(canvas.get_by_role("button", name=re.compile("^First of two"))).to_be_visible()


def test_two_fingers_move_and_zoom_the_view_and_draw_nothing(canvas: Page) -> None:
    board(canvas).press("b")
    board(canvas).press("0")
    scale = canvas.locator(".canvas-scale")
    before = int(scale.inner_text().split()[0])
    x, y = at(canvas, 64, 64)
    touch = canvas.context.new_cdp_session(canvas)

    def fingers(kind: str, *apart: float) -> None:
        points = [{"x": x + side * apart[0] / 2, "y": y, "id": number} for number, side in enumerate((-1, 1)) if apart]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 100)
    for apart in (120, 160, 200):
        fingers("touchMove", apart)
    fingers("touchEnd")
    wait_for(lambda: int(scale.inner_text().split()[0]) == pytest.approx(2 * before, rel=0.05))
    assert kept(canvas)["strokes"] == []
