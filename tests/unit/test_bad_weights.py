"""Weights that are NaN: one line that names the file and its tensors, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from atelier.cli.app import run
from atelier.errors import BadFile, NotFinite
from atelier.request import events
from pipeline_support import Lending, engine_on, happened, planned, request
from upscaler_support import Compact, saved

PARTS = {
    "unet/diffusion_pytorch_model.safetensors": "conv_in.bias",
    "text_encoder/model.safetensors": "text_model.embeddings.position_embedding.weight",
    "vae/diffusion_pytorch_model.safetensors": "decoder.conv_out.weight",
}
"""A file of a model, and the name in it of a tensor that every image goes through."""


def spoiled(folder: Path, file: str, name: str) -> Path:
    """A model with one number that is none."""
    tensors = load_file(tiny.folder(folder) / file)
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, folder / file)
    return folder / file


@pytest.mark.parametrize("file", PARTS)
def test_a_model_names_its_file_and_the_tensors_in_it(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    at = spoiled(tmp_path / "tiny", file, PARTS[file])
    monkeypatch.setenv("ATELIER_MODELS", str(tmp_path))
    monkeypatch.setenv("ATELIER_DTYPE", "fp32")
    assert run(["generate", "a red cat", "--model", "tiny", "--steps", "1", "--output", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"atelier: {at}: has 1 tensor ({PARTS[file]}) of NaN or infinity: it is damaged, get it again"
    assert not list((tmp_path / "out").glob("*"))


def test_a_sound_file_is_not_blamed(tiny_folder: Path):
    """What does not fit the precision of the network in memory is infinite there, and finite in the file."""
    engine = engine_on(tiny_folder)

    def spoil(net: torch.nn.Module) -> torch.nn.Module:
        with torch.no_grad():
            next(net.parameters()).fill_(torch.inf)
        return net

    told = happened(planned(engine), Lending(engine.resources, {"denoiser": spoil}))
    assert isinstance(told[-1], events.Failed)
    assert type(told[-1].error) is NotFinite


def test_what_was_loaded_before_still_works(tiny_folder: Path, tmp_path: Path):
    other = spoiled(tmp_path / "other", *next(iter(PARTS.items()))).parents[1]
    engine = engine_on(tiny_folder, budget=2**30)
    before = engine.generate(request())[0].image.tobytes()
    with pytest.raises(BadFile, match=r"has 1 tensor \(conv_in\.bias\) of NaN"):
        engine.generate(request(model=str(other)))
    assert engine.generate(request())[0].image.tobytes() == before


@pytest.mark.parametrize("wrapper", [None, "params_ema"])
def test_an_upscaler_names_its_tensors(
    wrapper: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from PIL import Image

    tensors = Compact().tensors()
    tensors["body.0.bias"][3] = torch.nan
    file = saved(tmp_path / "bad.pth", tensors, wrapper)
    Image.new("RGB", (16, 16)).save(tmp_path / "in.png")
    monkeypatch.chdir(tmp_path)
    assert run(["upscale", "in.png", "--upscaler", str(file), "--output", "out.png"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"atelier: {file}: has 1 tensor (body.0.bias) of NaN or infinity: it is damaged, get it again"
    assert not (tmp_path / "out.png").exists()
