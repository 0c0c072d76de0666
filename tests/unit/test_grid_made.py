"""`atelier grid` and `atelier generate --prompts`, with a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atelier
from atelier.cli.app import run
from atelier.errors import BadInput
from atelier.request import events
from atelier.request.grid.asked import grid_of
from atelier.request.infotext import pixel_hash, read
from atelier.runtime import comparing
from atelier.runtime.store import encoded

CAT = {"prompt": "a red cat", "model": "tiny", "seed": 7}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, one library with the tiny model, full precision."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_MODELS", str(tiny_folder.parent))
    monkeypatch.setenv("ATELIER_DTYPE", "fp32")
    monkeypatch.setenv("ATELIER_DEVICE", "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def _carried(path: Path) -> str:
    with Image.open(path) as image:
        return str(image.info["parameters"])


def test_images_and_a_labelled_sheet_end_to_end(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["grid", "a red cat", "--model", "tiny", "--seed", "7", "--x", "steps=1,2", "--y", "cfg-scale=1,4"]
    assert run([*arguments, "--output", "g"]) == 0
    shown = capsys.readouterr()
    names = [f"g/0000{i}-7.png" for i in (1, 2, 3, 4)]
    assert shown.out.split() == [*names, "g/grid-00001.png"]
    assert "4 images in" in shown.err
    said = [read(_carried(Path(name))) for name in names]
    assert [(s.get("Steps"), s.get("CFG scale")) for s in said] == [
        ("1", "1.0"),
        ("2", "1.0"),
        ("1", "4.0"),
        ("2", "4.0"),
    ]
    alone = atelier.generate("a red cat", model="tiny", seed=7, steps=2, cfg_scale=4)[0]
    with Image.open(names[3]) as image:
        assert image.tobytes() == alone.image.tobytes()
    sheet = read(_carried(place / "g" / "grid-00001.png"))
    assert [sheet.get(key) for key in ("Script", "X Type", "X Values", "Y Type")] == [
        *("X/Y/Z plot", "Steps", "1,2", "CFG Scale")
    ]
    with Image.open("g/grid-00001.png") as page:
        assert sheet.get("Pixel hash") == pixel_hash(page)
        _shows(page, names)


def _shows(page: Image.Image, names: list[str]) -> None:
    """Each image, twice as large, in its row and column at the right end of the page."""
    left, top = page.width - 2 * (128 + 6), page.height - 2 * (128 + 6)
    for number, name in enumerate(names):
        row, column = divmod(number, 2)
        corner = (left + column * 134, top + row * 134)
        with Image.open(name) as image:
            large = image.resize((128, 128), Image.Resampling.NEAREST)
        assert page.crop((*corner, corner[0] + 128, corner[1] + 128)).tobytes() == large.tobytes()
    words = np.asarray(page.convert("L"))[: top - 6]
    assert (words[:, left : left + 128] < 128).any()
    assert (np.asarray(page.convert("L"))[top:, : left - 6] < 128).any()


def test_only_what_is_missing_is_made_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(steps: str = "1,2,3") -> list[str]:
        code = run(["grid", "a red cat", "--model", "tiny", "--x", f"steps={steps}", "-o", "g"])
        assert code == 0
        return capsys.readouterr().err.splitlines()

    make()
    before = {path: path.stat().st_mtime_ns for path in (place / "g").iterdir()}
    seed = read(_carried(min(before))).get("Seed")
    (place / "g" / f"00002-{seed}.png").rename(place / "g" / "moved.png")
    assert make()[0] == "note: 3 of 3 images are there already"
    (place / "g" / "moved.png").unlink()
    _spoil(place / "g" / f"00003-{seed}.png")
    shown = make()
    assert shown[0] == "note: 1 of 3 images are there already"
    assert shown[-1].startswith("2 images in")
    steps = [read(_carried(path)).get("Steps") for path in sorted((place / "g").glob("0*.png"))]
    assert steps == ["1", "3", "2", "3"]
    assert (place / "g" / "grid-00001.png").stat().st_mtime_ns == before[place / "g" / "grid-00001.png"]
    assert not (place / "g" / "grid-00002.png").exists()


def _spoil(path: Path) -> None:
    """One pixel of the image is changed; what it says stays."""
    text = _carried(path)
    with Image.open(path) as image:
        changed = image.copy()
    changed.putpixel((3, 3), (1, 2, 3))
    path.write_bytes(encoded(changed, text))


def test_from_python() -> None:
    made = atelier.grid("a red cat|a dog", matrix=True, z=("steps", [1, 2]), model="tiny", seed=7)
    assert [image.infotext.splitlines()[0] for image in made.images] == ["a red cat", "a red cat, a dog"] * 2
    assert len(made.sheets) == 2
    assert all("Script: Prompt matrix" in sheet.infotext for sheet in made.sheets)
    assert [f"Steps: {n}" in sheet.infotext for n, sheet in enumerate(made.sheets, 1)] == [True, True]
    (alone,) = atelier.generate("a red cat, a dog", model="tiny", seed=7, steps=2)
    assert made.images[3].image.tobytes() == alone.image.tobytes()


def test_nothing_is_made_where_one_cell_is_bad(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["grid", "a red cat", "--model", "tiny", "--x", "sampler=Euler,Eular", "-o", "g"]) == 2
    assert "Eular" in capsys.readouterr().err
    assert not (place / "g").exists()
    assert run(["grid", "a red cat", "--model", "tiny", "--x", "steps=1,2", "-o", "g.png"]) == 2
    assert "g.png: a grid makes several files" in capsys.readouterr().err
    assert run(["grid", "a red cat"]) == 2
    assert "--x" in capsys.readouterr().err
    with pytest.raises(BadInput, match="no parts"):
        atelier.grid("a red cat", matrix=True)


def test_progress_is_counted_over_the_whole_grid() -> None:
    told = list(comparing.events(atelier.engine(), grid_of(CAT, x="steps=2,3")))
    assert [event for event in told if isinstance(event, events.Started)] == [events.Started(2, 5)]
    progress = [event for event in told if isinstance(event, events.Progress)]
    assert [(p.done, p.total, p.index) for p in progress] == [(1, 5, 0), (2, 5, 0), (3, 5, 1), (4, 5, 1), (5, 5, 1)]
    assert [event.index for event in told if isinstance(event, events.ImageReady)] == [0, 1]
    finished = told[-1]
    assert isinstance(finished, events.Finished)
    assert finished.count == 2


def test_prompts_from_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "p.txt").write_text('a red cat\n--prompt "a dog" --steps 3 --seed 9\na cat --x\n', encoding="utf-8")
    assert run(["generate", "--prompts", "p.txt", "--model", "tiny", "--steps", "1", "--seed", "7"]) == 0
    shown = capsys.readouterr()
    names = shown.out.split()
    assert names == ["outputs/00001-7.png", "outputs/00002-9.png", "outputs/00003-7.png"]
    assert "p.txt: line 3 is taken as a prompt" in shown.err
    said = [read(_carried(Path(name))) for name in names]
    assert [(s.prompt, s.get("Steps")) for s in said] == [("a red cat", "1"), ("a dog", "3"), ("a cat --x", "1")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\n--prompt b --steps 0", ("p.txt: line 2: steps '0'",)),
        ("a\n--prompt b --sampler_name Eular", ("Eular",)),
        ("\n \n", ("p.txt", "no prompts")),
        (None, ("p.txt", "cannot be read")),
    ],
)
def test_bad_files_of_prompts(
    text: str | None, words: tuple[str, ...], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (place / "p.txt").write_text(text, encoding="utf-8")
    assert run(["generate", "--prompts", "p.txt", "--model", "tiny"]) == 2
    shown = capsys.readouterr().err
    assert all(word in shown for word in words), shown
    assert shown.count("\n") == 1
    assert not (place / "outputs").exists()
