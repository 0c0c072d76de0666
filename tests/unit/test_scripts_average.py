"""scripts/average: the mean of two denoisers is a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import average
import tiny
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers

SCRIPT = Path(__file__).parents[2] / "scripts" / "lib" / "average.py"
UNET = "unet/diffusion_pytorch_model.safetensors"


def test_every_weight_is_the_mean_and_the_rest_is_the_first_ones(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        parts = tiny.modules()
        tiny.randomize(parts.networks["unet"], seed)
        tiny.randomize(parts.networks["vae"], seed)
        write_diffusers(parts, tmp_path / name, torch.float16)
    command = [sys.executable, SCRIPT, tmp_path / "one", tmp_path / "two", "0.75", tmp_path / "mean"]
    subprocess.run(command, check=True)
    one, two, mean = (load_file(tmp_path / name / UNET) for name in ("one", "two", "mean"))
    assert any((one[name] != two[name]).any() for name in one)
    for name, tensor in mean.items():
        assert torch.equal(tensor, (0.75 * one[name].float() + 0.25 * two[name].float()).half()), name
    vae = "vae/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "mean" / vae).read_bytes() == (tmp_path / "one" / vae).read_bytes()
    assert open_checkpoint(tmp_path / "mean").facts == open_checkpoint(tmp_path / "one").facts


def test_models_of_other_shapes_and_shares_beyond_1_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, nine = tiny.folder(tmp_path / "one"), tiny.folder(tmp_path / "nine", in_channels=9)
    wrong = (
        (one, "2", "share '2'"),
        (one, "x", "share 'x'"),
        (tmp_path / "none", "0.5", "none"),
        (nine, "0.5", "another shape"),
    )
    for other, share, said in wrong:
        assert average.main(str(one), str(other), share, str(tmp_path / "mean")) == 2
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        assert said in shown.err
        assert not (tmp_path / "mean").exists()
