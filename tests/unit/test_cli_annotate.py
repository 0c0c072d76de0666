"""`atelier annotate`: where hints are saved, how they are told of, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator_support import drawing, line_drawing, saved, scene
from atelier.cli.app import run
from atelier.vision.arrays.canny import canny


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_MODELS", str(tmp_path / "models"))
    (tmp_path / "models" / "Annotators").mkdir(parents=True)
    Image.fromarray(scene(side=128)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_hint_is_saved_beside_others(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["annotate", "canny", str(image)]) == 0
    assert run(["annotate", "canny", str(image), "--option", "low=20", "--option", "high=60"]) == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in paths] == ["a-canny.png", "a-canny-2.png"]
    for path, thresholds in zip(paths, ((100, 200), (20, 60)), strict=True):
        with Image.open(path) as saved:
            assert (np.asarray(saved)[..., 0] == canny(scene(side=128), *thresholds)).all()
            assert saved.info == {}


def test_a_named_file_a_resolution_and_a_size(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["annotate", "softedge", str(image), "-o", "b.webp"]
    assert run([*arguments, "--resolution", "64"]) == 2
    assert "ControlNetHED.pth is not there: put it into the folder annotators" in capsys.readouterr().err
    arguments[1] = "threshold"
    assert run([*arguments, "--resolution", "64"]) == 0
    with Image.open("b.webp") as saved:
        assert saved.size == (64, 64)
    assert run([*arguments, "--size", "96x80", "--resize-mode", "fill", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == ["b.webp"]
    with Image.open("b.webp") as saved:
        assert saved.size == (96, 80)


def test_seeds(image: Path) -> None:
    for name, seed in (("one", "1"), ("two", "2"), ("again", "1")):
        assert run(["annotate", "shuffle", str(image), "--seed", seed, "-o", f"{name}.png"]) == 0
    data = {name: Path(f"{name}.png").read_bytes() for name in ("one", "two", "again")}
    assert data["one"] == data["again"] != data["two"]


def test_poses(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    person = {"pose_keypoints_2d": [30.0, 40.0, 1.0] * 18}
    pose = {"people": [person], "canvas_width": 90, "canvas_height": 70}
    Path("pose.json").write_text(json.dumps([pose, pose]), encoding="utf-8")
    assert run(["annotate", "openpose", "pose.json"]) == 0
    paths = capsys.readouterr().out.split()
    assert [Path(path).name for path in paths] == ["pose-openpose.png", "pose-openpose-2.png"]
    with Image.open(paths[0]) as saved:
        assert saved.size == (90, 70)
        assert np.asarray(saved).any()
    assert run(["annotate", "canny", "pose.json"]) == 2
    assert "keypoints are drawn by openpose" in capsys.readouterr().err


def test_the_list(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["annotate", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("canny ") for line in lines)
    assert any("Needs ControlNetHED.pth." in line for line in lines)
    assert run(["annotate", "--list", "--json"]) == 0
    told = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert told["canny"]["options"][0] == {"name": "low", "default": 100, "low": 0, "high": 256}
    assert told["softedge_hed"]["files"] == ["ControlNetHED.pth"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["canny"], "nothing to draw"),
        (["canyn", "a.png"], "unknown annotator 'canyn': did you mean canny"),
        (["canny", "a.png", "--option", "low"], "write it as in low=50"),
        (["canny", "a.png", "--option", "lo=1"], "no option 'lo'"),
        (["canny", "a.png", "--option", "low=nan"], "low is nan"),
        (["canny", "a.png", "--size", "2"], "write it as in 768x512"),
        (["canny", "a.png", "--size", "0x5"], "--size 0x5: write it as in 768x512"),
        (["canny", "a.png", "--size", "99999x99999"], "at most"),
        (["canny", "a.png", "--resolution", "7"], "it can be 64 to 2048"),
        (["canny", "gone.png"], "gone.png"),
        (["lineart", "a.png", "--file", "a.png"], "a.png"),
        (["openpose", "gone.json"], "does not exist"),
    ],
)
def test_what_is_refused(image: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["annotate", *arguments]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1


def test_a_file_in_the_folders_of_models_is_found(image: Path) -> None:
    saved(line_drawing(), image.parent / "models" / "Annotators" / "SK_model.pth")
    Image.fromarray(drawing(64, 64)).save("b.png")
    assert run(["annotate", "lineart_realistic", "b.png", "-o", "c.png"]) == 0
    assert run(["annotate", "lineart", "b.png", "--file", "models/Annotators/SK_model.pth", "-o", "d.png"]) == 0
    assert Path("c.png").read_bytes() == Path("d.png").read_bytes()
