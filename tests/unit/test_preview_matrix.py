"""Previews from a matrix beside the model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.preview import FILE, METADATA, RgbMatrix, rgb_matrix
from atelier.cli.app import run
from atelier.errors import BadFile
from atelier.families.facts import LatentFormat
from atelier.pipeline.decoding import rough
from atelier.pipeline.resources import AUTOENCODER
from atelier.pipeline.stages.diffuse import Diffuse
from atelier.request import events
from atelier.train.preview import fitted
from pipeline_support import engine_on, planned, request

MATRIX = RgbMatrix(((0.5, 0.0, 0.0), (0.0, 0.25, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (0.1, 0.2, 0.3)))


def test_channels_become_colours() -> None:
    latent = torch.zeros(4, 2, 3)
    latent[:, 1, 2] = torch.tensor([1.0, 2.0, -5.0, 9.0])
    shown = rough(latent, MATRIX)
    assert shown.size == (3, 2)
    assert shown.getpixel((0, 0)) == (26, 51, 76)
    assert shown.getpixel((2, 1)) == (153, 178, 0)


class _Halving(torch.nn.Module):
    """An autoencoder whose latent is a known linear function of the colours, at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def encode(self, pixels: torch.Tensor, *_: object) -> _Halving:
        self.seen = torch.nn.functional.avg_pool2d(pixels, 2)
        return self

    def mode(self) -> torch.Tensor:
        return torch.cat(
            [2 * self.seen[:, :1] + 1, -self.seen[:, 1:], self.seen[:, :1] * 0 + 1e-3 * self.seen[:, 1:2] ** 2], 1
        )


def test_the_fit_finds_the_matrix_that_there_is() -> None:
    rng = np.random.default_rng(3)
    images = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)) for _ in range(20)]
    found = fitted(images, _Halving(), LatentFormat(1.0, 0.0, 2, 4))  # pyright: ignore[reportArgumentType]
    wanted = ((0.25, 0, 0), (0, -0.5, 0), (0, 0, -0.5), (0, 0, 0), (0.25, 0.5, 0.5))
    np.testing.assert_allclose(found.rows, wanted, atol=1e-3)


def test_previews_need_no_autoencoder_where_the_model_has_a_matrix(tiny_folder: Path, tmp_path: Path) -> None:
    own = shutil.copytree(tiny_folder, tmp_path / "tiny")
    (own / FILE).write_text(MATRIX.to_json(), encoding="utf-8")
    engine, plain = engine_on(own), engine_on(tiny_folder)
    told = list(engine.events(request(), previews=0.0))
    assert {e.image.size for e in told if isinstance(e, events.Preview)} == {(16, 16)}
    images = [e.image.tobytes() for e in told if isinstance(e, events.ImageReady)]
    assert images == [image.image.tobytes() for image in plain.generate(request())]
    (diffuse,) = (stage for stage in planned(engine, previews=True) if isinstance(stage, Diffuse))
    assert [need.part for need in diffuse.needs()][1:] == [AUTOENCODER]
    assert len(replace(diffuse, matrix=MATRIX).needs()) == 1


def test_a_matrix_of_other_channels_is_none_and_a_damaged_one_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    own = shutil.copytree(tiny_folder, tmp_path / "tiny")
    assert rgb_matrix(open_checkpoint(own)) is None
    (own / FILE).write_text(MATRIX.to_json(), encoding="utf-8")
    assert rgb_matrix(open_checkpoint(own)) == MATRIX
    (own / FILE).write_text(json.dumps({"rows": MATRIX.rows[:-1]}), encoding="utf-8")
    assert rgb_matrix(open_checkpoint(own)) is None
    (own / FILE).write_text('{"rows": [[1, 2]]}', encoding="utf-8")
    with pytest.raises(BadFile, match="damaged"):
        rgb_matrix(open_checkpoint(own))


def test_converting_keeps_it(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a folder into a file and back into a folder; a file of its own goes before what is carried."""
    own = tmp_path / "own"
    shutil.copytree(tiny_folder, own)
    (own / FILE).write_text(MATRIX.to_json(), encoding="utf-8")
    for source, target in (("own", "one.safetensors"), ("one.safetensors", "back")):
        assert run(["models", "convert", str(tmp_path / source), str(tmp_path / target)]) == 0
        assert rgb_matrix(open_checkpoint(tmp_path / target)) == MATRIX
    assert "preview.json" not in capsys.readouterr().out, "nothing is left out"
    other = RgbMatrix(tuple(row[::-1] for row in MATRIX.rows))
    (tmp_path / "back" / FILE).write_text(other.to_json(), encoding="utf-8")
    assert rgb_matrix(open_checkpoint(tmp_path / "back")) == other
    plain = open_checkpoint(tiny_folder)
    with pytest.raises(BadFile, match="is damaged \\(preview_rgb in its metadata\\)"):
        rgb_matrix(replace(plain, metadata={METADATA: "[1]"}))
