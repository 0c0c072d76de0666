"""What the environment says, and the Python API's front door."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import atelier
from atelier import compose
from atelier.errors import BadInput, UnknownName


def test_models_are_looked_for_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("ATELIER_MODELS", os.pathsep.join(["one", str(tmp_path), ""]))
    assert compose.library().folders == (Path("one"), tmp_path)
    monkeypatch.delenv("ATELIER_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert compose.library().folders == (Path("models"), tmp_path / "atelier" / "models")


def test_nobody_needs_a_home(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path):
    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    for name in ("ATELIER_MODELS", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert compose.library().folders == (Path("models"),)
    assert compose.engine().resolve(atelier.Request(prompt="", model=str(tiny_folder))).model.name == "tiny"


def test_a_worker_finds_models_by_name_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What a client names is no path on the server."""
    seen: list[bool] = []

    class Worker:
        def __init__(self, _way: object, engine: Any, *_: object) -> None:
            seen.append(engine.library.by_path)

        def run(self) -> None: ...

    monkeypatch.setattr("atelier.runtime.workers.worker.Worker", Worker)
    monkeypatch.setenv("ATELIER_MODELS", str(tmp_path))
    compose.work_for_server(cast("Any", None))
    assert seen == [False]


def test_hashes_are_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    request = atelier.Request(prompt="", model=str(tiny_folder))
    first = compose.engine().resolve(request).model
    assert (tmp_path / "atelier" / "hashes.json").is_file()
    monkeypatch.setattr("atelier.weights.hashes.file_sha256", lambda _: pytest.fail("read again"))
    assert compose.engine().resolve(request).model == first


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_folder: Path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compose.engine().resolve(atelier.Request(prompt="", model=str(tiny_folder))).model.sha256


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ATELIER_DEVICE", "cpu")
    monkeypatch.setenv("ATELIER_DTYPE", "bf16")
    assert str(compose.engine().device) == "cpu (bf16)"
    assert str(compose.engine(dtype="fp32").device) == "cpu (fp32)"
    monkeypatch.setenv("ATELIER_DTYPE", "int4")
    with pytest.raises(UnknownName, match="int4"):
        compose.engine()


def test_bad_input_is_told_before_torch_is_asked():
    with pytest.raises(BadInput, match="steps 0"):
        atelier.generate("a cat", steps=0)


def test_the_package_offers_what_it_says():
    assert all(getattr(atelier, name) is not None for name in atelier.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = atelier.nothing


def test_painting_leaves_the_global_generator_alone(tiny_folder: Path):
    before = torch.get_rng_state()
    atelier.generate("a cat", model=str(tiny_folder), steps=2, sampler="Euler a", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
