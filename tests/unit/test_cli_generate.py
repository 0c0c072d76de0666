"""`atelier generate` and `atelier info`, with a tiny model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image

import atelier
from atelier.cli.app import run
from atelier.errors import BadInput
from atelier.request.table import request_of
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
    told, there = out.split(), images(place)
    assert told == there[: len(told)]
    assert 0 <= len(there) - len(told) <= 1  # the signal may come between an image and its line
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
        (["a", "--set", "cfg-scale=1", "--set", "cfg_scale=2"], "--set cfg_scale is given twice"),
        (
            ["a", "--set", "negative=b"],
            "--set negative: give it as --negative, or call it by its name, --set negative_pr",
        ),
        (["a", "--set", "style=b"], "--set style: give it as --style, or call it by its name, --set styles=…"),
        (["a", "--set", "from=x.png"], "--set from: it is no field of a request, give it as --from"),
        (["a", "--set", "styles-file=x"], "--set styles_file: it is no field of a request, give it as --styles-file"),
        (["a", "--set", "verify=1"], "give it as --verify"),
        (["a", "--set", "no-preview=1"], "give it as --no-preview"),
        (["a", "--set", "=3"], "--set '=3': write it as NAME=VALUE"),
        (["a", "--set", "sgm_noise_multiplier=maybe"], "sgm_noise_multiplier 'maybe': say yes or no"),
        (["a", "--set", "styles=", "--steps", "1"], "styles is empty: say which, or leave it out"),
        (["a", "--steps", "abc"], "--steps 'abc': input should be a valid integer"),
        (["a", "--cfg-scale", "1,5"], "--cfg-scale '1,5': input should be a valid number"),
        (["a", "--width", ""], "--width '': input should be a valid integer"),
        (["a", "--sampler", ""], "sampler is empty: say which, or leave it out"),
        (["a", "--scheduler", " "], "scheduler is empty"),
        (["a", "--model", ""], "model is empty"),
        (["a", "--output", ""], "output is empty"),
        (["a", "--emphasis", ""], "emphasis is empty"),
        (["a", "--style", ""], "styles is empty"),
        (["a", "--set", "model_hash="], "model_hash is empty"),
        (["a", "--set", "hires_sampler="], "hires_sampler is empty"),
        (["a", "--styles-file", "gone.csv"], "gone.csv: is no file: name the one that holds the styles"),
        (
            ["a", "--scheduler", "1e308,3,0"],
            "schedule '1e308,3,0': the list of sigmas has 1e+308: use 0, or 0.0001 to 1,000",
        ),
        (["a", "--scheduler", "3,1e-50,0"], "schedule '3,1e-50,0': the list of sigmas has 1e-50"),
        (["a", "--scheduler", "3,2.99999999,0"], "the list of sigmas does not descend at 3, 3"),
        (["a", "--scheduler", ",,"], "schedule ',,': a list of sigmas needs two or more"),
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


def test_a_name_with_a_line_break_stays_one_line(capsys: pytest.CaptureFixture[str]):
    assert generate("--model", "./two\nlines.safetensors") == 2
    shown = capsys.readouterr().err
    assert "two\\nlines.safetensors" in shown
    assert shown.count("\n") == 1


def test_an_option_given_twice_is_told_of(place: Path, capsys: pytest.CaptureFixture[str]):
    assert generate("-o", "x", "--steps=1", "--output", "y") == 0
    shown = capsys.readouterr()
    assert shown.out == "y/00001-7.png\n"
    assert sorted(line for line in shown.err.splitlines() if line.startswith("note")) == [
        "note: --output is given more than once: the last one counts",
        "note: --steps is given more than once: the last one counts",
    ]


def test_a_prompt_and_styles_may_be_set(place: Path, capsys: pytest.CaptureFixture[str]):
    Path("styles.csv").write_text('name,prompt\noil,"oil, {prompt}"\n', encoding="utf-8")
    more = ["--set", "prompt=a cat", "--set", "styles=oil", "--model", "tiny", "--steps", "1", "-o", "a.png"]
    assert run(["generate", *more]) == 0
    capsys.readouterr()
    assert run(["info", "a.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "oil, a cat"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (("variation_seed=3",), "variation_seed: it has no effect without a variation_strength"),
        (("s_churn=1", "s_tmin=5", "s_tmax=2"), "s_churn: it has no effect, as s_tmin 5 is above s_tmax 2"),
        (("model_hash=123",), "model hash 123 was asked for; 'tiny' has"),
        (("model_hash=12345678",), "(8 digits may be A1111's hash of before 2023, which is another)"),
    ],
)
def test_what_takes_another_back_is_a_note(fields: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]):
    assert generate("--sampler", "Euler", *(f"--set={field}" for field in fields)) == 0
    assert told in capsys.readouterr().err


def test_a_schedule_that_the_sampler_overrules_is_a_note(capsys: pytest.CaptureFixture[str]):
    assert generate("--sampler", "Euler Karras", "--scheduler", "Exponential") == 0
    shown = capsys.readouterr().err
    assert "note: scheduler Exponential is ignored: the sampler's name, Euler Karras, says Karras\n" in shown
    assert generate("--sampler", "Euler Karras", "--scheduler", "karras") == 0
    assert generate("--sampler", "Euler Karras", "--scheduler", "automatic") == 0
    assert "note" not in capsys.readouterr().err


def test_tensors_that_no_network_takes_are_a_note(tiny_file: Path, place: Path, capsys: pytest.CaptureFixture[str]):
    header = safetensors.torch.load_file(tiny_file)
    with safetensors.safe_open(tiny_file, "pt") as opened:
        metadata = opened.metadata()
    safetensors.torch.save_file({**header, "global_step": torch.tensor(3)}, place / "odd.safetensors", metadata)
    assert generate("--model", "odd.safetensors") == 0
    assert "odd: 1 tensor (global_step) left unread" in capsys.readouterr().err
    assert run(["models", "inspect", "odd.safetensors"]) == 0
    assert "1 tensor (global_step)" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["new", "new/inner", "new/inner/a.png"])
def test_what_fails_or_is_stopped_leaves_no_empty_folder(place: Path, output: str):
    engine = atelier.engine(keep=False)
    request = atelier.Request(prompt="a", model="tiny", steps=3, seed=1, output=output)
    events = engine.events(request)
    next(events)
    assert (place / "new").is_dir()
    events.close()
    assert not (place / "new").exists()
    for _ in engine.events(request):
        pass
    assert len(images(place)) == 1


def test_several_images_are_told_in_turn(place: Path, capsys: pytest.CaptureFixture[str]):
    assert generate("--output", "a.png") == 0
    Path("b.txt").write_text("a dog\nSteps: 3, Sampler: Euler, Seed: 1, Size: 64x64", encoding="utf-8")
    capsys.readouterr()
    assert run(["info", "a.png", "b.txt"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    first, second = shown.out.split("== b.txt\n")
    assert first.startswith("== a.png\na red cat\n")
    assert second.startswith("a dog\n")


def test_of_several_images_those_that_fail_are_named(place: Path, capsys: pytest.CaptureFixture[str]):
    Image.new("RGB", (8, 8)).save("plain.png")
    for name, words in {"b.txt": "a dog", "c.txt": "a cat"}.items():
        Path(name).write_text(f"{words}\nSteps: 3, Sampler: Euler, Seed: 1, Size: 64x64", encoding="utf-8")
    names = ["b.txt", "gone.png", "plain.png", "c.txt"]
    assert run(["info", *names]) == 2
    shown = capsys.readouterr()
    assert "a dog" in shown.out
    assert "a cat" in shown.out
    first, second = shown.err.splitlines()
    assert first.startswith("atelier: gone.png: cannot be read")
    assert second.startswith("atelier: plain.png: carries no infotext")
    assert run(["info", "--json", *names]) == 2
    entries = json.loads(capsys.readouterr().out)
    assert [entry["path"] for entry in entries] == names
    assert [entry.get("prompt") for entry in entries] == ["a dog", None, None, "a cat"]
    assert entries[2]["problem"].startswith("carries no infotext")


def given(value: Any) -> Any:
    """As callers without types have it."""
    return value


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: request_of({5: 1}), "5 is no name of a field: names are text"),
        (lambda: request_of({None: 1}), "None is no name of a field"),
        (lambda: request_of("steps=1"), "fields 'steps=1': give a mapping of names to values"),
        (lambda: atelier.engine().generate("a"), r"'a' is no Request: give atelier.Request\(prompt='a red apple'\)"),
        (lambda: atelier.engine().resolve({"prompt": "a"}), "{'prompt': 'a'} is no Request"),
        (lambda: atelier.engine().events(None), "None is no Request"),
        (lambda: atelier.engine().hashing("a"), "'a' is no Request"),
        (
            lambda: atelier.engine().run(atelier.Request(prompt="a" * 99)),
            r"\.\.\. is no Resolved: give what Engine.resolve",
        ),
        (lambda: atelier.generate("a", styles="oil"), "styles 'oil': must be a list of names"),
        (lambda: atelier.upscale("a.png", scale=given("2")), r"scale '2': give a factor such as 2, or a size such as"),
        (lambda: atelier.upscale("a.png", scale=given((100,))), r"scale \(100,\): give a factor"),
        (lambda: atelier.upscale("a.png", scale=given([100, 0])), "scale 100x0: both sides need at least 1 pixel"),
        (lambda: atelier.generate("a", styles=["oil\0"]), "styles holds"),
    ],
)
def test_what_python_gives_wrongly_is_one_line(call: Callable[[], object], told: str):
    with pytest.raises(BadInput, match=told) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_an_output_that_is_set_is_where_images_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["generate", "a", "--set", "output=there/", "--steps", "1", "--seed", "1", "--no-preview"]) == 0
    assert len(list((tmp_path / "there").iterdir())) == 1
    assert not (tmp_path / "outputs").exists()
