"""Contact sheets, the data list, and the commands that show them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from atelier.cli.data import app
from atelier.errors import BadFile, BadInput
from atelier.train.data import scenes
from atelier.train.data.listing import data_list
from atelier.train.data.sheet import sheet
from atelier.vision.lettering import MARGIN, PAPER, UNKNOWN, drawable, fonts

run = CliRunner().invoke


def _flat(colour: tuple[int, int, int], size: int = 64) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (size, size, 3))


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_pictures_stand_in_rows_and_are_enlarged_by_whole_factors() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (9, 9, 9), (90, 9, 99)]
    page = np.asarray(sheet([_flat(c) for c in colours], ["x"] * 5, 3))
    step_x, step_y = (page.shape[1] - MARGIN) // 3, (page.shape[0] - MARGIN) // 2
    for number, colour in enumerate(colours):
        top, left = MARGIN + number // 3 * step_y, MARGIN + number % 3 * step_x
        assert (page[top : top + 128, left : left + 128] == colour).all()
    assert (page[step_y + MARGIN :, 2 * step_x + MARGIN :] == PAPER).all()


def test_captions_are_written_beneath_within_the_width_of_their_picture() -> None:
    long = "a small lobster to the right of a couch and lamp on an orange background"
    page = np.asarray(sheet([_flat((0, 0, 0))] * 2, [long, ""], 2)).astype(int)
    ink = (np.abs(page - PAPER).sum(-1) > 200)[MARGIN + 128 :]
    left_cell, right_cell = ink[:, : MARGIN + 128], ink[:, MARGIN + 128 :]
    assert left_cell.any(1).sum() > 25, "several lines of text"
    assert not left_cell[-1].any(), "nothing cut off below"
    assert not right_cell.any()


def _ink(caption: str) -> np.ndarray:
    page = np.asarray(sheet([_flat((0, 0, 0))], [caption], 1)).astype(int)
    return (np.abs(page - PAPER).sum(-1) > 200)[MARGIN + 128 :]


@pytest.mark.parametrize("letters", ["êë", "ñõ", "łø", "ЖЯ"])
def test_letters_of_other_scripts_are_no_boxes(letters: str) -> None:
    if letters in {"łø", "ЖЯ"} and len(fonts()) == 1:
        pytest.skip("no font of many scripts is installed")
    first, second = (_ink(letter * 4) for letter in letters)
    assert first.any()
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, _ink(UNKNOWN * 4))


@pytest.fixture
def no_fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is installed but a broken file."""
    (tmp_path / "DejaVuSans.ttf").write_bytes(b"no font")
    monkeypatch.setattr("atelier.vision.lettering.font_folders", lambda: (tmp_path,))
    for remembered in (fonts, drawable):
        remembered.cache_clear()
    yield
    for remembered in (fonts, drawable):
        remembered.cache_clear()


@pytest.mark.usefixtures("no_fonts")
def test_without_another_font_letters_lose_their_accents() -> None:
    np.testing.assert_array_equal(_ink("une forêt, été"), _ink("une foret, ete"))
    np.testing.assert_array_equal(_ink("森"), _ink("?"))


def test_a_caption_without_spaces_stays_within_its_picture() -> None:
    page = np.asarray(sheet([_flat((0, 0, 0))] * 2, ["w" * 300, ""], 2)).astype(int)
    ink = (np.abs(page - PAPER).sum(-1) > 200)[MARGIN + 128 :]
    assert ink[:, : MARGIN + 128].any(1).sum() > 25, "several lines of text"
    assert not ink[:, MARGIN + 128 + 2 :].any()


def test_a_caption_without_end_is_cut() -> None:
    short, long, longer = (sheet([_flat((0, 0, 0))], ["word " * count], 1) for count in (1, 400, 4000))
    assert short.height < long.height == longer.height < 500


def test_pillow_pictures_and_large_ones_are_taken_as_they_are() -> None:
    page = sheet([Image.new("L", (200, 150), 7)], ["grey"], 4)
    assert page.width == 200 + 2 * MARGIN
    assert page.getpixel((MARGIN + 199, MARGIN + 149)) == (7, 7, 7)


@pytest.mark.parametrize(("count", "captions", "columns"), [(0, 0, 1), (1, 2, 1), (1, 1, 0)])
def test_what_makes_no_sheet(count: int, captions: int, columns: int) -> None:
    with pytest.raises(ValueError, match="columns"):
        sheet([_flat((0, 0, 0))] * count, ["x"] * captions, columns)


def test_the_list_holds_names_colours_and_what_was_held_out() -> None:
    data = data_list()
    assert data["concepts"] == [c.name for c in scenes.concepts()]
    assert data["backgrounds"]["white"] == [255, 255, 255]
    assert len(data["backgrounds"]) == 12
    assert all(scenes.is_held_out_pair(a, b) for a, b in data["held_out"]["pairs"])
    assert all(scenes.is_held_out_colour(a, b) for a, b in data["held_out"]["concept_backgrounds"])
    assert len(data["held_out"]["pairs"]) == len(scenes.held_out_pairs())


def test_list_prints_json() -> None:
    result = run(app, ["list", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(json.dumps(data_list()))


def test_list_prints_a_table_for_people() -> None:
    result = run(app, ["list"])
    assert f"{len(scenes.concepts())} concepts" in result.stdout
    assert "red apple" in result.stdout
    assert "cyan" in result.stdout


def test_preview_writes_scenes_with_their_captions(tmp_path: Path) -> None:
    output = tmp_path / "new" / "sheet.png"
    result = run(app, ["preview", "--seed", "4", "--count", "7", "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert str(output) in result.stdout.replace("\n", "")
    page = _pixels(output)
    shown = page[MARGIN : MARGIN + 128, MARGIN : MARGIN + 128]
    np.testing.assert_array_equal(shown, scenes.render(scenes.scene(4, 0), 128))


def test_preview_of_a_folder_shows_each_picture_once(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50), (1, 2, 3)).save(tmp_path / "p.png")
    (tmp_path / "p.txt").write_text("dark", encoding="utf-8")
    output = tmp_path / "out" / "sheet.png"
    assert run(app, ["preview", "--data", str(tmp_path), "--size", "128", "--output", str(output)]).exit_code == 0
    assert _pixels(output).shape[1] == 128 + 2 * MARGIN


def test_preview_of_a_folder_shows_what_training_shows_and_what_it_never_does(tmp_path: Path) -> None:
    source = tmp_path / "pictures"
    source.mkdir()
    for number in range(20):
        Image.new("RGB", (20, 20), (10 * number, 0, 0)).save(source / f"{number}.png")
        (source / f"{number}.txt").write_text("red", encoding="utf-8")
    shades: dict[str, set[int]] = {}
    for option in ("--no-held-out", "--held-out"):
        output = tmp_path / "out" / f"{option}.png"
        more = [option] if option == "--held-out" else []
        assert (
            run(app, ["preview", "--data", str(source), "--size", "20", "--output", str(output), *more]).exit_code == 0
        )
        page = _pixels(output)
        shades[option] = {int(r) for r, g, b in page.reshape(-1, 3) if g == b == 0 and r % 10 == 0}
    assert len(shades["--held-out"]) == 2
    assert len(shades["--no-held-out"] | shades["--held-out"]) == 20
    assert not shades["--no-held-out"] & shades["--held-out"]


def test_preview_refuses_other_formats_and_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"sheet\.png"):
        run(app, ["preview", "--output", str(tmp_path / "sheet.jpg")], catch_exceptions=False)
    with pytest.raises(BadFile, match="no images"):
        run(app, ["preview", "--data", str(tmp_path), "--output", str(tmp_path / "s.png")], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_the_scenes_need_no_torch() -> None:
    code = (
        "import sys\n"
        "import atelier.cli.data\n"
        "assert 'numpy' not in sys.modules and 'PIL' not in sys.modules\n"
        "from atelier.train import sources\n"
        "from atelier.train.data import folder, listing, sheet\n"
        "from atelier.train.recipe import Data\n"
        "sources.dataset(Data(), 'train').image(0)\n"
        "assert 'torch' not in sys.modules\n"
    )
    source = Path(scenes.__file__).parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=source)
