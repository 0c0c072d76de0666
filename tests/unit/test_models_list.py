"""`atelier models list` over folders of several programs, and the index that remembers what files are."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import tiny
from atelier.checkpoints import inspecting
from atelier.cli.models import app
from atelier.errors import AtelierError, BadFile
from atelier.runtime.index import Index
from atelier.runtime.installed import added, installed
from atelier.runtime.library import Library
from atelier.weights.formats.tree import Bound, places


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "atelier" / "files.sqlite"


def entries(*arguments: object) -> dict[str, dict[str, object]]:
    done = CliRunner().invoke(app, ["list", "--json", *map(str, arguments)])
    assert done.exit_code == 0, done.exception
    return {entry["name"]: entry for entry in json.loads(done.stdout)}


def lora(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    name = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
    save_file({f"{name}.lora_down.weight": torch.ones(4, 768), f"{name}.lora_up.weight": torch.ones(640, 4)}, path)
    return path


def webui(root: Path) -> Path:
    """An installation of A1111 as it lies on disk."""
    folder = root / "models" / "Stable-diffusion" / "anime"
    folder.mkdir(parents=True)
    tiny.single_file(folder / "photo.safetensors")
    lora(root / "models" / "Lora" / "style.safetensors")
    (root / "embeddings").mkdir()
    torch.save({"string_to_param": {"*": torch.ones(2, 768)}, "name": "bad"}, root / "embeddings" / "bad.pt")
    return root


def test_an_installation_is_listed(tmp_path: Path) -> None:
    root = webui(tmp_path / "webui")
    models = entries("--webui-dir", root)
    assert models.keys() >= {"embedded", "photo"}
    assert models["photo"]["kind"] == "checkpoint"
    assert not models.keys() & {"style", "bad"}
    every = entries("--webui-dir", root, "--all")
    assert (every["style"]["kind"], every["style"]["family"], every["style"]["variant"]) == ("lora", "sd1", "lora")
    assert (every["bad"]["kind"], every["bad"]["family"]) == ("embedding", "sd1")
    text = CliRunner().invoke(app, ["list", "--all", "--webui-dir", str(root)]).stdout
    assert "LoRA of Stable Diffusion 1.x, lora, fp32" in text


def test_folders_that_comfyui_is_told_of_are_read_as_data(tmp_path: Path) -> None:
    root, other = tmp_path / "comfy", webui(tmp_path / "shared place")
    (root / "models").mkdir(parents=True)
    (tmp_path / "more").mkdir()
    (root / "extra_model_paths.yaml").write_text(
        "# settings\n"
        "a111:\n"
        f"    base_path: '{other}'  # where it lies\n"
        "    is_default: true\n"
        "    checkpoints: models/Stable-diffusion\n"
        "    loras: |\n"
        "         models/Lora\n"
        "         models/LyCORIS\n"
        "harm: !!python/object/apply:os.system [id]\n"
        "other:\n"
        f"    vae: {tmp_path / 'more'}\n"
        "    upscale: ../nowhere\n"
    )
    expected = (root / "models", other / "models/Stable-diffusion", other / "models/Lora", tmp_path / "more")
    assert installed(root) == expected
    assert entries("--webui-dir", root)["photo"]["family"] == "sd1"


def test_what_is_no_installation_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="there is none of that name"):
        installed(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    error = CliRunner().invoke(app, ["list", "--webui-dir", str(tmp_path / "empty")]).exception
    assert isinstance(error, AtelierError)
    assert "no installation of A1111 or ComfyUI" in str(error)
    (tmp_path / "large.yaml").write_bytes(b" " * 1_000_001)
    with pytest.raises(BadFile, match="too large"):
        added(tmp_path / "large.yaml")


def test_a_file_is_opened_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = tmp_path / "shelf"
    for number in range(30):
        lora(shelf / f"style{number}.safetensors")
    opened: list[str] = []
    inspect = inspecting.inspect

    def watched(path: Path) -> inspecting.FileReport:
        opened.append(path.name)
        return inspect(path)

    monkeypatch.setattr(inspecting, "inspect", watched)
    first = entries("--models-dir", shelf, "--all")
    assert len(opened) == 31
    assert entries("--models-dir", shelf, "--all") == first
    assert len(opened) == 31
    save_file({"emb_params": torch.ones(2, 768)}, shelf / "style3.safetensors")
    assert entries("--models-dir", shelf, "--all")["style3"]["kind"] == "embedding"
    assert opened[31:] == ["style3.safetensors"]


def test_an_index_that_is_broken_or_old_is_done_without(tmp_path: Path, cache: Path) -> None:
    lora(tmp_path / "shelf" / "style.safetensors")
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"no database at all, but long enough to look at" * 100)
    assert entries("--models-dir", tmp_path / "shelf", "--all")["style"]["kind"] == "lora"
    cache.unlink()
    with sqlite3.connect(cache) as database:
        database.execute("CREATE TABLE files (other TEXT)")
    database.close()
    assert entries("--models-dir", tmp_path / "shelf", "--all")["style"]["kind"] == "lora"
    found = dict(Index(cache).entries([tmp_path / "shelf" / "style.safetensors"], lambda _: {"kind": "made again"}))
    assert [entry["kind"] for entry in found.values()] == ["lora"]


def test_a_file_that_cannot_be_looked_at_says_so(tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "gone.safetensors").symlink_to(tmp_path / "nowhere")
    (shelf / "empty.safetensors").write_bytes(b"")
    (shelf / "folder.safetensors").mkdir()
    found = entries("--models-dir", shelf)
    assert "does not exist" in str(found["gone.safetensors"]["problem"])
    assert "is empty" in str(found["empty"]["problem"])
    assert "folder" not in found


def test_pickled_models_have_names_and_parts_beside_them_have_none(tmp_path: Path) -> None:
    state = load_file(tiny.single_file(tmp_path / "photo.safetensors"))
    folder = tmp_path / "models" / "sd1"
    folder.mkdir(parents=True)
    torch.save({"state_dict": state}, folder / "old.ckpt")
    (folder / "old.vae.safetensors").write_bytes(b"")
    library = Library((tmp_path / "models",))
    assert [model.name for model in library.models()] == ["embedded", "old"]
    for name in ("old", "old.ckpt", "SD1/old.ckpt [0123456789]"):
        assert library.find(name).path == folder / "old.ckpt"


def walked(folder: Path, deep: int = 12, entries: int = 100) -> tuple[list[str], list[str]]:
    """(the folders that are entered, by their paths in it; what is told)."""
    told: list[str] = []
    found = [place.path for place in places(folder, bound=Bound(deep, entries, told.append))]
    return [str(path.relative_to(folder)) for path in found], told


def test_a_walk_ends_at_its_bound_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "z").mkdir()
    for number in range(5):
        (tmp_path / "a" / f"{number}.txt").touch()
    every = [".", "a", "a/b", "a/b/c", "z"]
    assert walked(tmp_path) == (every, [])
    assert walked(tmp_path, deep=2) == (
        [".", "a", "a/b", "z"],
        [f"{tmp_path}/a/b/c: lies more than 2 folders below {tmp_path}, and was not looked at"],
    )
    assert walked(tmp_path, entries=8) == (
        [".", "a"],
        [f"{tmp_path}: has 8 files and folders or more, of which the first were looked at"],
    )
    assert walked(tmp_path, entries=9)[0] == every[:3]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="this system shows nothing of itself as a folder")
def test_what_the_system_shows_of_itself_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to("/proc")
    assert walked(tmp_path) == (["."], [f"{tmp_path}/linked: is the system's own, and was not looked at"])
    root = tmp_path / "comfy"
    (root / "models").mkdir(parents=True)
    (root / "extra_model_paths.yaml").write_text("a:\n    checkpoints: /proc\n")
    done = CliRunner().invoke(app, ["list", "--webui-dir", str(root)])
    assert done.exit_code == 0
    assert done.stderr == "atelier: /proc: is the system's own, and was not looked at\n"
    assert not list(Library((Path("/sys"),)).files())
