"""`atelier interrogate`, with the embedded model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from atelier.cli.app import run
from atelier.errors import BadFile
from atelier.train.data import scenes
from atelier.vision.interrogate import word_lists


def _save(scene: scenes.Scene, path: Path) -> str:
    Image.fromarray(scenes.render(scene)).save(path)
    return str(path)


def test_concepts_and_backgrounds_of_rendered_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names, grounds = [c.name for c in scenes.concepts()], tuple(scenes.BACKGROUNDS)
    shown = [scenes.large(names[i * 37 % len(names)], grounds[i % 12]) for i in range(40)]
    paths = [_save(scene, tmp_path / f"{number}.png") for number, scene in enumerate(shown)]
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "two.txt").write_text("a red apple\n\na banana\na banana\n", encoding="utf-8")
    assert run(["interrogate", *paths, "--json", "--top", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    right = [
        told[path]["concepts"][0]["word"].endswith(scene.objects[0].name)
        for path, scene in zip(paths, shown, strict=True)
    ]
    on = [scene.background in told[path]["backgrounds"][0]["word"] for path, scene in zip(paths, shown, strict=True)]
    assert sum(right) >= 30, f"{sum(right)} of 40"
    assert sum(on) >= 22, f"{sum(on)} of 40"
    assert all(len(own["concepts"]) == 2 for own in told.values())
    assert all(own["concepts"][0]["share"] >= own["concepts"][1]["share"] for own in told.values())
    apple = _save(scenes.large("banana", "white"), tmp_path / "banana.png")
    assert run(["interrogate", apple, "--words", str(tmp_path / "w")]) == 0
    assert capsys.readouterr().out.startswith(f"{apple}: two: a banana (")


def test_lists_are_files_of_lines(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("\ufeffx\n y y \n\nx\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("\n", encoding="utf-8")
    (tmp_path / "c.md").write_text("z", encoding="utf-8")
    (found,) = word_lists(tmp_path)
    assert (found.name, found.words) == ("b", ("x", "y y"))
    (tmp_path / "b.txt").unlink()
    with pytest.raises(BadFile, match=r"holds no \.txt"):
        word_lists(tmp_path)
    with pytest.raises(BadFile, match="cannot be read"):
        word_lists(tmp_path / "gone")


def test_a_model_without_an_image_encoder_and_what_is_no_image(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = _save(scenes.large("banana", "white"), tmp_path / "banana.png")
    assert run(["interrogate", image, "--model", str(tiny_folder)]) == 2
    assert "has no image encoder" in capsys.readouterr().err
    assert run(["interrogate", str(tmp_path / "gone.png")]) == 2
    shown = capsys.readouterr().err
    assert "gone.png" in shown
    assert shown.count("\n") == 1
