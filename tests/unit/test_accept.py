"""scripts/accept: its front, the list of requests of `pixels`, and what `pixels` notices. Nothing is generated here but
one image of the random model."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image, ImageStat
from PIL.PngImagePlugin import PngInfo

from atelier.vision.catalogue import open_upscaler

ROOT = Path(__file__).parents[2]
CHECKS = ROOT / "scripts" / "lib" / "accept"
COLOURS = {"one": (10, 20, 30), "two": (40, 50, 60)}
"""What the stand-in for the command line generates for each prompt."""


@pytest.fixture
def pixels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CHECKS))
    return import_module("pixels")


def accept(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(ROOT / "scripts" / "accept"), *arguments], capture_output=True, text=True, check=False)


def test_without_a_name_the_checks_are_listed() -> None:
    done = accept()
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert (done.returncode, names) == (0, sorted(p.stem for p in CHECKS.glob("[!_]*.py")))
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", ["nothing", "_random_model", "../average", ""])
def test_an_unknown_name_is_one_line(name: str) -> None:
    done = accept(name)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"'{name}'" in done.stderr


def test_every_sampler_and_schedule_is_in_the_table(pixels: ModuleType) -> None:
    requests = pixels.read_table().requests
    assert pixels.uncovered(request.infotext for request in requests) == []
    without = [r.infotext for r in requests if "Sampler: PLMS" not in r.infotext and "Log SNR" not in r.infotext]
    assert pixels.uncovered(without) == ["Sampler: DEIS log-rho", "Sampler: PLMS", "Schedule type: Log SNR"]


def test_names_and_files_are_unique(pixels: ModuleType, tmp_path: Path) -> None:
    names = [request.name for request in pixels.read_table().requests]
    assert 60 <= len(names) == len({pixels._file(name, 1) for name in names})
    twice = tmp_path / "twice.toml"
    twice.write_text('styles = ""\n[wildcards]\n[[request]]\nname = "a"\n[[request]]\nname = "a"\n')
    with pytest.raises(pixels.Failed, match="'a' is there twice"):
        pixels.read_table(twice)


def test_the_random_model_is_the_same_everywhere_and_paints(pixels: ModuleType, tmp_path: Path) -> None:
    with pixels.workshop(pixels.Table(())) as folder:
        weights = (folder / "random" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
        assert hashlib.sha256(weights).hexdigest()[:16] == "ceb1a7d94226216d"
        request = pixels.Request("one", "a cat\nSteps: 1, Sampler: Euler, Seed: 1, RNG: portable", (), "random")
        (made,) = pixels.paint(request, None, folder)
    assert made.image.size == (64, 64)
    assert made.infotext.startswith("a cat\nSteps: 1, Sampler: Euler,")
    assert "Version" not in made.infotext


def stand_in(colours: dict[str, tuple[int, int, int]]) -> object:
    """`generate`, generating one colour for each prompt."""

    def generate(arguments: Sequence[str]) -> tuple[int, str]:
        said = dict(pairwise(arguments))
        text = Path(said["--from"]).read_text()
        if text not in colours:
            return 2, "atelier: no\n"
        infotext = PngInfo()
        infotext.add_text("parameters", f"{text}\nSteps: 1, Size: 8x8, Pixel hash: 0, Version: 1")
        Path(said["--output"]).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), colours[text]).save(Path(said["--output"]) / "00001-1.png", pnginfo=infotext)
        return 0, "1 image\n"

    return generate


@pytest.fixture
def recording(pixels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    table = pixels.Table(tuple(pixels.Request(f"request {name}", name) for name in COLOURS))
    monkeypatch.setattr(pixels, "read_table", lambda: table)
    monkeypatch.setattr(pixels, "uncovered", lambda infotexts: [])
    monkeypatch.setattr(pixels, "generate", stand_in(COLOURS))
    file = tmp_path / "before.json"
    assert pixels.record(file, None) == f"2 requests with 2 images recorded in {file}"
    return file


def test_what_is_painted_again_is_equal(pixels: ModuleType, recording: Path) -> None:
    assert pixels.compare(recording) == []
    first = recording.read_bytes()
    pixels.record(recording, None)
    assert recording.read_bytes() == first
    assert sorted(p.name for p in recording.with_suffix("").iterdir()) == ["request-one-1.png", "request-two-1.png"]


def test_another_pixel_is_noticed_and_kept(
    pixels: ModuleType, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "generate", stand_in({**COLOURS, "two": (40, 50, 63)}))
    found = "request two: image 1 has other pixels"
    assert pixels.compare(recording) == [f"{found}: 64 of 192 values differ, by 3 of 255 at most"]
    kept = recording.with_suffix("") / "request-two-1-now.png"
    assert Image.open(kept).getpixel((0, 0)) == (40, 50, 63)
    kept.with_name("request-two-1.png").unlink()
    assert pixels.compare(recording) == [found]
    monkeypatch.setattr(pixels, "generate", stand_in(COLOURS))
    assert pixels.compare(recording) == []
    assert not kept.exists()


def test_another_hash_or_infotext_in_the_file_is_noticed(pixels: ModuleType, recording: Path) -> None:
    for old, new, said in (
        ('"sha256": "', '"sha256": "0', "image 1 has other pixels: 0 of 192 values differ, by 0 of 255 at most"),
        ("Steps: 1", "Steps: 2", "image 1 has another infotext: Steps: 2 then, Steps: 1 now"),
        ("Pixel hash: 0", "Pixel hash: 1", "image 1 has another infotext: Pixel hash: 1 then, Pixel hash: 0 now"),
    ):
        file = recording.with_name("changed.json")
        recording.with_suffix("").rename(file.with_suffix(""))
        file.write_text(recording.read_text().replace(old, new, 1))
        assert pixels.compare(file) == [f"request one: {said}"]
        file.with_suffix("").rename(recording.with_suffix(""))


def test_failures_and_missing_images_are_noticed(
    pixels: ModuleType, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads(recording.read_text())
    content["requests"][0]["images"] *= 2
    recording.write_text(json.dumps(content))
    monkeypatch.setattr(pixels, "generate", stand_in({"one": COLOURS["one"]}))
    assert pixels.compare(recording) == [
        "request one: 2 images then, 1 now",
        "request two: `atelier generate` ended with 2: atelier: no",
    ]
    with pytest.raises(pixels.Failed, match="request two: `atelier generate` ended with 2"):
        pixels.record(recording, None)
    recording.write_text("{}")
    with pytest.raises(pixels.Failed, match="is no recording"):
        pixels.compare(recording)


def test_a_request_that_shows_nothing_is_not_recorded(
    pixels: ModuleType, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = recording.read_bytes()
    monkeypatch.setattr(pixels, "generate", stand_in(dict.fromkeys(COLOURS, (1, 2, 3))))
    with pytest.raises(pixels.Failed, match=r"request-two-1.png is the same image as request-one-1.png"):
        pixels.record(recording, None)
    assert recording.read_bytes() == before


def test_exit_codes(
    pixels: ModuleType, recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    assert pixels.main(["compare", str(recording)]) == 0
    monkeypatch.setattr(pixels, "generate", stand_in({**COLOURS, "one": (0, 0, 0)}))
    assert pixels.main(["compare", str(recording)]) == 1
    assert capsys.readouterr().out.splitlines()[1].startswith("request one: image 1 has other pixels")
    for wrong in ([], ["record"], ["record", "x.txt"], ["compare", "none.json"], ["record", "x.json", "--model", "no"]):
        with pytest.raises(SystemExit) as stopped:
            pixels.main(wrong)
        assert stopped.value.code == 2


def test_the_upscaler_that_is_measured_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of random weights, narrow; its file is read and it enlarges four times."""
    monkeypatch.syspath_prepend(str(CHECKS))
    check = import_module("upscale")
    monkeypatch.setattr(check, "WIDTH", 8)
    monkeypatch.setattr(check, "GROWTH", 4)
    torch.save({"params_ema": check.weights(2)}, tmp_path / "random.pth")
    net = open_upscaler(tmp_path / "random.pth", torch.device("cpu"), torch.float32)
    image = Image.fromarray(check.pixels(64))
    large = net.enlarge(image, (256, 256))
    assert 10 < ImageStat.Stat(large).stddev[0] < 100
    large.save(tmp_path / "one.png")
    large.point(lambda value: max(0, value - 3)).save(tmp_path / "other.png")
    assert check.compared(tmp_path / "one.png", tmp_path / "one.png")["share_within_2"] == 1
    assert check.compared(tmp_path / "one.png", tmp_path / "other.png")["share_within_2"] < 0.1
