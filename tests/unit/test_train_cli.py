"""`atelier train` as people use it: one line for every bad input, exit codes, signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import training_support as support
from atelier.cli.app import run
from atelier.cli.train import changes
from atelier.errors import BadInput
from atelier.train import checkpoint
from atelier.train.tasks.vae import VaeTask

pytestmark = pytest.mark.usefixtures("no_charts")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(support.draw_images(tmp_path_factory.mktemp("data") / "pictures"))


def arguments(kind: str, out: Path, source: str, **more: Any) -> list[str]:
    table = {**support.RUN, **support.MODELS[kind], "run.threads": 1, "data.source": f"'{source}'", **more}
    table["run.dtype"] = "fp32"
    return ["train", kind, "--out", str(out), *(f"--set={key}={value}" for key, value in table.items())]


def test_a_model_is_no_place_for_a_run(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    assert run(arguments("vae", tmp_path, source)) == 2
    shown = capsys.readouterr().err
    assert f"{tmp_path}: is a model: --out is the folder of a run" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["model_index.json"]


@pytest.mark.parametrize("inside", [".", "runs/a"])
def test_a_run_does_not_lie_among_its_images(inside: str, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(source, inside)
    before = sorted(Path(source).rglob("*"))
    assert run(arguments("vae", out, source)) == 2
    assert "lies in the folder of the training images" in capsys.readouterr().err
    assert sorted(Path(source).rglob("*")) == before


@pytest.mark.parametrize("kind", ["control", "image-prompt", "lora"])
def test_without_training_images_nothing_is_trained(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No name is not the folder that somebody stands in."""
    monkeypatch.chdir(tmp_path)
    assert run(["train", kind, "--out", "run"]) == 2
    assert "data.source: no training images are named: give their folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    from atelier.train.recipes.vae import VAE
    from atelier.train.registry import read

    (tmp_path / "mine.toml").write_text(VAE.defaults.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert read(str(tmp_path / "mine.toml"), VAE) == read("vae", VAE)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("run.steps=100", {"run.steps": 100}),
        ("run.steps = 1_000", {"run.steps": 1000}),
        ("optim.rate=1e-3", {"optim.rate": 1e-3}),
        ("model.widths=[24, 48]", {"model.widths": [24, 48]}),
        ("model.mid_attention=false", {"model.mid_attention": False}),
        ("data.source=my images", {"data.source": "my images"}),
        ("data.source='a=b'", {"data.source": "a=b"}),
        ("vae=", {"vae": ""}),
    ],
)
def test_changes_are_toml_or_words(pair: str, expected: dict[str, object]) -> None:
    assert changes([pair]) == expected


@pytest.mark.parametrize("pair", ["run.steps", "=3", "run..steps=3", ".=3", ""])
def test_changes_without_key_and_value_are_refused(pair: str) -> None:
    with pytest.raises(BadInput, match="write KEY=VALUE, such as"):
        changes([pair])


def test_a_training_from_the_command_line(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = arguments("vae", tmp_path / "vae", source)
    assert run(command) == 0
    first = capsys.readouterr()
    assert first.out.splitlines() == [str(tmp_path / "vae" / "part.safetensors")]
    told = first.err.splitlines()
    assert any(line.startswith("step 9/9  ") and " left  loss " in line for line in told)
    assert any(line.startswith("step 9: psnr ") for line in told)
    assert sum(line.startswith("saved ") for line in told) >= 3
    assert run(command) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert "finished before" in again.err
    assert {path.name for path in (tmp_path / "vae").iterdir()} >= {"recipe.json", "log.jsonl", "part.json", "samples"}
    assert run([*command, "--set", "optim.rate=0.5"]) == 2
    assert "(optim.rate was 0.001, is 0.5)" in capsys.readouterr().err


BAD: dict[str, tuple[list[str], str]] = {
    "unknown key": (["--set", "run.stepz=3"], "run.stepz is no key of a recipe: did you mean run.steps"),
    "no value": (["--set", "run.steps"], "--set 'run.steps': write KEY=VALUE"),
    "bad value": (["--set", "run.steps=0"], "run.steps = 0: input should be greater than 0"),
    "size and factor": (["--set", "data.size=30", "--set", "model.widths=[8,8,8]"], "not divisible by the autoencoder"),
    "no device": (["--device", "cud"], "unknown device 'cud': did you mean cuda"),
    "no folder": (["--set", "data.source=/nowhere"], "/nowhere: no such folder"),
}


@pytest.mark.parametrize(("more", "told"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    more: list[str], told: str, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments("vae", tmp_path / "run", source), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert told in line
    assert "Traceback" not in line
    assert not (tmp_path / "run").exists()


def test_a_picture_without_caption_and_a_broken_one_are_named(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = support.draw_images(tmp_path / "own", 3)
    (own / "001.txt").unlink()
    assert run(arguments("clip", tmp_path / "run", str(own))) == 2
    assert "001.png: has no caption" in capsys.readouterr().err
    (own / "001.txt").write_text("a thing")
    content = (own / "002.png").read_bytes()
    (own / "002.png").write_bytes(content[: len(content) // 2])
    assert run(arguments("vae", tmp_path / "run", str(own), **{"run.workers": 1})) == 2
    assert "002.png: broken image" in capsys.readouterr().err


def test_a_place_that_is_no_folder(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    assert run(arguments("vae", tmp_path / "file", source)) == 2
    assert "is a file: --out is the folder of a run" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_the_denoiser_names_the_training_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [f"--set=vae={tmp_path / 'vae'}", f"--set=clip={tmp_path / 'clip'}"]
    assert run(["train", "denoiser", "--out", str(tmp_path / "run"), *parts]) == 2
    assert f"run `atelier train vae --out {tmp_path / 'vae'}` first" in capsys.readouterr().err


def test_no_number_ends_with_three(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(VaeTask, "update", lambda *_: {"loss": torch.tensor(float("nan"))})
    assert run(arguments("vae", tmp_path, source)) == 3
    assert "step 1: loss is nan; there is no checkpoint yet" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups there")
def test_sigterm_to_all_processes_saves_and_the_same_command_goes_on(source: str, tmp_path: Path) -> None:
    """As a scheduler ends a job: the worker gets the signal too."""
    out = tmp_path / "run"
    more = {"run.steps": 100_000, "run.workers": 1, "run.checkpoint_every": 50_000, "run.validate_every": 100_000}
    command = arguments("vae", out, source, **more)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "atelier", *command], stderr=subprocess.PIPE, text=True, env=environment, process_group=0
    )
    log = out / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 3):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    told = process.communicate(timeout=600)[1]
    assert process.returncode == 130, told
    newest = checkpoint.newest(out / "checkpoints")
    assert newest is not None
    step = checkpoint.load(newest).step
    assert step > 3
    assert "stopping after this step" in told
    assert told.splitlines()[-1] == f"atelier: stopped at step {step}; the same command goes on from there"
    assert not list(out.rglob(".tmp-*"))
