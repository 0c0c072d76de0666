"""`atelier generate` and `atelier info`, with a tiny model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

import atelier
from atelier.cli.app import run
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.hashes import HashCache


@pytest.fixture(autouse=True)
def place(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own to stand in, one library with the tiny model, full precision."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_MODELS", str(tiny_folder.parent))
    monkeypatch.setenv("ATELIER_DTYPE", "fp32")
    monkeypatch.setenv("ATELIER_DEVICE", "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def generate(*arguments: str) -> int:
    return run(["generate", "a red cat", "--model", "tiny", "--steps", "2", "--seed", "7", *arguments])


def images(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def test_a_picture_lands_in_outputs_and_its_path_is_told(place: Path, capsys: pytest.CaptureFixture[str]):
    assert generate() == 0
    shown = capsys.readouterr()
    assert shown.out == "outputs/00001-7.png\n"
    assert re.fullmatch(r"1 image in \d+\.\d s\n", shown.err)
    with Image.open(place / "outputs" / "00001-7.png") as image:
        assert image.size == (64, 64)
        assert "Seed: 7, Size: 64x64" in image.info["parameters"]


def test_every_option_arrives(place: Path, capsys: pytest.CaptureFixture[str]):
    options = "--scheduler exponential --cfg-scale 3.5 --width 72 --height 80 --batch-size 2 --batch-count 2"
    names = ("--negative", "a dog", "--sampler", "euler a", "--output", "cats/cat.png", "--no-preview")
    code = generate(*options.split(), *names)
    assert code == 0
    assert images(place) == [f"cats/cat-{i}.png" for i in (1, 2, 3, 4)]
    assert capsys.readouterr().out.split() == images(place)
    for number, name in enumerate(images(place)):
        assert run(["info", name, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["prompt"], told["negative_prompt"]) == ("a red cat", "a dog")
        assert (
            told["parameters"] | {"Sampler": "Euler a", "Schedule type": "Exponential", "CFG scale": "3.5"}
            == told["parameters"]
        )
        assert told["request"]["seed"] == 7 + number
        assert (told["request"]["width"], told["request"]["height"], told["request"]["steps"]) == (72, 80, 2)
    look = {"sampler": "Euler a", "scheduler": "Exponential", "cfg_scale": 3.5, "seed": 9, "width": 72, "height": 80}
    generated = atelier.generate("a red cat", negative_prompt="a dog", model="tiny", steps=2, **look)
    assert generated[0].image.tobytes() == Image.open("cats/cat-3.png").tobytes()


def test_the_python_api(place: Path):
    first, second = atelier.generate("a red cat", model="tiny", steps=2, seed=7, batch_size=2)
    assert isinstance(first, atelier.GeneratedImage)
    assert (first.seed, second.seed) == (7, 8)
    assert first.save("mine.png") == Path("mine.png")
    assert second.save(place / "folder") == place / "folder" / "00001-8.png"
    with Image.open("mine.png") as image:
        assert image.info["parameters"] == first.infotext
        assert image.tobytes() == first.image.tobytes()
    engine = atelier.engine()
    request = atelier.Request(prompt="a red cat", model="tiny", steps=2, seed=8)
    assert engine.generate(request)[0].image.tobytes() == second.image.tobytes()


def test_a_random_seed_is_told_and_makes_the_same_picture(place: Path):
    (picture,) = atelier.generate("a red cat", model="tiny", steps=2)
    (again,) = atelier.generate("a red cat", model="tiny", steps=2, seed=picture.seed)
    assert again.image.tobytes() == picture.image.tobytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sampler", "Eular"), ("Eular", "Euler")),
        (("--scheduler", "Karas"), ("Karas", "Karras")),
        (("--model", "tyni"), ("tyni", "tiny")),
        (("--model", "gone.safetensors"), ("gone.safetensors",)),
        (("--model", "."), (".",)),
        (("--width", "100"), ("width 100", "96 or 104")),
        (("--height", "8"), ("height 8", "64 to 4096")),
        (("--height", "1000000"), ("height 1000000", "64 to 4096")),
        (("--steps", "0"), ("steps 0", "1 to 1000")),
        (("--cfg-scale", "nan"), ("cfg_scale nan", "0 to 100")),
        (("--seed", "-5"), ("seed -5",)),
        (("--batch-size", "0"), ("batch_size 0",)),
        (("--rng", "dice"), ("rng 'dice'", "portable")),
        (("--batch-count", "-1"), ("batch_count -1",)),
        (("--output", "cat.gif"), ("cat.gif", "cat.png")),
        (("--output", "/proc/nothing/here"), ("/proc/nothing",)),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], words: tuple[str, ...], place: Path, capsys: pytest.CaptureFixture[str]
):
    assert generate(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("atelier: ")
    assert shown.err.count("\n") == 1
    assert all(word in shown.err for word in words), shown.err
    assert images(place) == []
    assert not (place / "outputs").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"\xff" * 16 + data,
        lambda data: b"",
        lambda data: b"GIF89a" + bytes(1000),
        lambda data: data.replace(
            b'"first_stage_model.decoder.conv_in.weight"', b'"first_stage_model.decoder.conv_in.heavyy"'
        ),
    ],
    ids=["truncated", "no header", "empty", "foreign", "key"],
)
def test_a_spoiled_file_is_named(spoil: object, tiny_file: Path, place: Path, capsys: pytest.CaptureFixture[str]):
    assert callable(spoil)
    (place / "bad.safetensors").write_bytes(spoil(tiny_file.read_bytes()))
    assert generate("--model", "bad.safetensors") == 2
    shown = capsys.readouterr().err
    assert "bad.safetensors" in shown
    assert shown.count("\n") == 1
    assert images(place) == []


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("ATELIER_DEVICE", "tpu")
    assert generate() == 2
    assert "tpu" in capsys.readouterr().err


def test_the_installation_is_told(capsys: pytest.CaptureFixture[str], tiny_folder: Path):
    assert run(["info"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["atelier"] == atelier.__version__
    assert told["device"] == "cpu (fp32)"
    assert told["models"] == str(tiny_folder.parent)


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_what_is_no_picture_is_named(content: bytes, place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "x.png").write_bytes(content)
    assert run(["info", "x.png"]) == 2
    assert "x.png" in capsys.readouterr().err


def test_a_picture_without_text_is_named(place: Path, capsys: pytest.CaptureFixture[str]):
    Image.new("RGB", (8, 8)).save("plain.png")
    assert run(["info", "plain.png"]) == 2
    assert "plain.png" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_leaves_whole_pictures_and_130(place: Path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "atelier",
            "generate",
            "a cat",
            "--model",
            "tiny",
            "--steps",
            "20",
            "--batch-count",
            "500",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - one thread here
    )
    deadline = time.monotonic() + 300
    while not images(place) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 130, error
    assert error == "atelier: stopped\n"
    assert out.split() == images(place) != []
    for name in images(place):
        with Image.open(name) as image:
            image.load()
    assert [p for p in (place / "outputs").iterdir() if p.suffix != ".png"] == []


def test_a_full_disk_is_one_line_and_leaves_nothing(place: Path, capsys: pytest.CaptureFixture[str]):
    full = place / "full"
    full.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(full)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        assert generate("--output", "full", "--width", "256", "--height", "256") == 2
        shown = capsys.readouterr()
        assert "full" in shown.err
        assert shown.err.count("\n") == 1
        assert list(full.iterdir()) == []
    finally:
        subprocess.run(["umount", str(full)], check=True)


def test_the_example_paints_the_same_picture(place: Path, tiny_folder: Path):
    """Weights, families and diffusion alone are all that generating takes."""
    example = Path(__file__).parents[2] / "examples" / "minimal.py"
    subprocess.run(
        [sys.executable, str(example), "a red cat", "example.png", str(tiny_folder)], check=True, capture_output=True
    )
    plain = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=1, channels_last=False)
    engine = Engine(plain, Library((tiny_folder.parent,)), HashCache(), version="1")
    (picture,) = engine.generate(atelier.Request(prompt="a red cat", model="tiny", seed=0, steps=20, cfg_scale=7))
    with Image.open("example.png") as image:
        assert image.tobytes() == picture.image.tobytes()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a", "--set", "steps=7", "--steps", "1"], "steps is given twice, as an option and with --set"),
        (["a", "--set", "prompt=b"], "prompt is given twice"),
        (["a", "--set", "eta=1", "--set", "eta=0.5"], "--set eta is given twice"),
        (["a", "--set", "model_hash=\x01\x00"], "model_hash holds"),
        (["a", "--set", f"seed_resize={'9' * 5000}x1"], "seed_resize"),
        (["a", "--set", "seed_resize=65536x65536"], "seed_resize"),
        (["a", "--set", "guidance=1"], "guidance is a group, name one of its fields (cfg_rescale, "),
        (["a", "--set", "sampling.eta=1"], "sampling is a group, name one of its fields (eta)"),
        (["a", "--set", "rho=1e-300", "--scheduler", "Karras", "--steps", "2"], "rho is 1e-300: use 0.0001 or more"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["generate", *arguments]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.strip().count("\n") == 0


def test_an_output_that_is_set_is_where_images_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["generate", "a", "--set", "output=there/", "--steps", "1", "--seed", "1", "--no-preview"]) == 0
    assert len(list((tmp_path / "there").iterdir())) == 1
    assert not (tmp_path / "outputs").exists()
