"""Models are found by name or path."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier.checkpoints.embedded import EMBEDDED, embedded_folder
from atelier.errors import BadFile, UnknownName
from atelier.runtime.library import Library, Model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photo.safetensors").write_bytes(b"photo")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "Anime v2.safetensors").write_bytes(b"anime")
    (tmp_path / "sub" / "notes.txt").touch()
    model = tmp_path / "folder-model"
    (model / "unet").mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    (model / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"unet")
    return tmp_path


def test_models_are_the_embedded_one_and_what_lies_in_the_folders(folder: Path):
    models = Library((folder, folder / "missing")).models()
    assert [m.name for m in models] == [EMBEDDED, "Anime v2", "folder-model", "photo"]
    assert models[0].path == embedded_folder()


def test_of_a_training_only_what_it_made_is_a_model(folder: Path):
    run = folder / "run"
    (run / "checkpoints" / "step-00000009").mkdir(parents=True)
    (run / "checkpoints" / "step-00000009" / "unet.safetensors").touch()
    (run / "recipe.json").touch()
    (run / "part.safetensors").touch()
    (run / "model").mkdir()
    (run / "model" / "model_index.json").touch()
    assert [m.name for m in Library((folder,)).models()] == [EMBEDDED, "Anime v2", "folder-model", "model", "photo"]


def test_what_is_half_written_is_no_model(folder: Path):
    half = folder / f".tmp-{'a' * 32}"
    (half / "unet").mkdir(parents=True)
    (half / "unet" / "diffusion_pytorch_model.safetensors").touch()
    (half / "model_index.json").touch()
    (folder / ".hidden.safetensors").touch()
    assert [m.name for m in Library((folder,)).models()] == [EMBEDDED, "Anime v2", "folder-model", "photo"]


def test_a_text_that_can_be_no_file_is_an_unknown_name(folder: Path):
    with pytest.raises(UnknownName, match="unknown model 'xxx"):
        Library((folder,)).find("x" * 300)


def test_a_path_that_exists_comes_before_a_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder / "sub")
    Path("photo").mkdir()
    assert Library((folder,)).find("photo").path == Path("photo")


def test_the_first_folder_wins(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("other")
    (other / "photo.safetensors").write_bytes(b"other")
    assert Library((other, folder)).find("photo").path.parent == other


def test_finding(folder: Path):
    library = Library((folder,))
    assert library.find(None).name == library.find("Embedded").name == EMBEDDED
    assert library.find("PHOTO").path == folder / "photo.safetensors"
    assert library.find(str(folder / "folder-model")) == Model("folder-model", folder / "folder-model")
    assert library.find(str(folder / "sub" / "Anime v2.safetensors")).name == "Anime v2"


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("phto", UnknownName, "photo"),
        ("nowhere/at/all", BadFile, "nowhere/at/all"),
        ("missing.safetensors", BadFile, "missing.safetensors"),
    ],
)
def test_what_is_not_there(folder: Path, name: str, error: type[Exception], words: str):
    with pytest.raises(error, match=words) as caught:
        Library((folder,)).find(name)
    assert "\n" not in str(caught.value)
