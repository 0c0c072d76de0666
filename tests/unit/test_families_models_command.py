"""`atelier models` on small checkpoints."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_families_sd1 import model
from typer.testing import CliRunner, Result

from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers, write_ldm
from atelier.cli.app import application
from atelier.cli.models import app
from atelier.errors import AtelierError, BadFile, StorageFull, UnknownName
from atelier.families.parts import UNET
from atelier.weights.formats.safetensors import read_header


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def problem(*arguments: object) -> AtelierError:
    """What the command line prints in one line."""
    error = run(*arguments).exception
    assert isinstance(error, AtelierError)
    assert error.exit_code == 2
    assert str(error).isprintable()
    return error


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A models folder with a single file, a diffusers folder in a subfolder, and something else."""
    shelf = tmp_path / "models"
    (shelf / "more").mkdir(parents=True)
    write_ldm(model(prediction="velocity", size=32), shelf / "single.safetensors")
    write_diffusers(model(size=32), shelf / "more" / "folder", torch.float16)
    (shelf / "broken.safetensors").write_bytes(b"PK\x03\x04" + b"\0" * 30)
    return shelf


def test_list_shows_what_is_there_and_what_is_wrong_with_it(shelf: Path) -> None:
    found = {entry["name"]: entry for entry in json.loads(run("list", "--models-dir", shelf, "--json").stdout)}
    assert {"embedded", "single", "folder", "broken"} == found.keys()
    assert (found["single"]["layout"], found["single"]["prediction"], found["single"]["size"]) == (
        "ldm",
        "velocity",
        32,
    )
    assert (found["folder"]["layout"], found["folder"]["dtype"]) == ("diffusers", "fp16")
    assert "zip archive" in found["broken"]["problem"]
    lines = run("list", "--models-dir", shelf).stdout.splitlines()
    assert len(lines) == 4
    assert any(line.startswith("single") and "Stable Diffusion 1.x, 32 px, ldm, fp32" in line for line in lines)


def test_inspect_reads_headers_and_hashes_when_asked(shelf: Path) -> None:
    path = shelf / "single.safetensors"
    found = json.loads(run("inspect", path, "--json").stdout)
    assert (found["family"], found["sha256"], found["bytes"]) == ("sd1", None, path.stat().st_size)
    assert found["parts"]["unet"]["parameters"] == sum(p.numel() for p in model().networks["unet"].parameters())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(run("inspect", "single", "--models-dir", shelf, "--hash", "--json").stdout)["sha256"] == digest
    text = run("inspect", path, "--hash").stdout
    assert digest[:10] in text
    assert "velocity" in text
    save_file({**load_file(path), "betas": torch.ones(3)}, path, dict(read_header(path).metadata))
    assert "1 tensor (betas), left over from training" in run("inspect", path).stdout
    assert "left out 1 tensor (betas)" in run("convert", path, shelf / "out").stdout


def test_convert_names_the_folders_that_it_leaves_out(shelf: Path) -> None:
    folder = shelf / "more" / "folder"
    assert "left out" not in run("convert", folder, shelf / "plain").stdout
    for name in ("safety_checker", "feature_extractor", ".cache"):
        (folder / name).mkdir()
    said = run("convert", folder, shelf / "out.safetensors").stdout
    assert "left out feature_extractor, safety_checker: nothing here uses them" in said
    assert "left out" not in run("convert", shelf / "out.safetensors", shelf / "back").stdout


def test_inspect_and_list_import_no_torch(shelf: Path) -> None:
    code = (
        "import sys\n"
        "from atelier.cli.models import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'tokenizers')))"
    )
    for arguments in (["inspect", str(shelf / "single.safetensors")], ["list", "--models-dir", str(shelf)]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Stable Diffusion 1.x" in done.stdout


def test_convert_there_and_back_keeps_every_bit(shelf: Path, tmp_path: Path) -> None:
    source, back = shelf / "single.safetensors", tmp_path / "back.safetensors"
    assert "diffusers layout, fp32" in run("convert", source, tmp_path / "folder").stdout
    assert "ldm layout" in run("convert", tmp_path / "folder", back).stdout
    assert back.read_bytes() == source.read_bytes()


def test_convert_changes_precision(shelf: Path, tmp_path: Path) -> None:
    target = tmp_path / "half.safetensors"
    result = run("convert", "single", target, "--layout", "ldm", "--dtype", "bf16", "--models-dir", shelf)
    assert "bf16" in result.stdout
    assert {t.dtype for n, t in load_file(target).items() if n != "v_pred"} == {torch.bfloat16}
    assert open_checkpoint(target).tensors(UNET, torch.float32)["conv_in.weight"].dtype == torch.float32


def test_what_is_there_is_not_replaced_unasked(shelf: Path, tmp_path: Path) -> None:
    for target in (tmp_path / "out.safetensors", tmp_path / "out"):
        run("convert", shelf / "single.safetensors", target)
        assert "exists already" in str(problem("convert", shelf / "more" / "folder", target))
        assert open_checkpoint(target).dtype == "fp32"
        assert run("convert", shelf / "more" / "folder", target, "--overwrite").exit_code == 0
        assert open_checkpoint(target).dtype == "fp16"


def test_bad_input_is_one_line(shelf: Path, tmp_path: Path) -> None:
    application("models")  # there commands become strict
    assert isinstance(problem("inspect", shelf / "broken.safetensors"), BadFile)
    near = problem("inspect", "singel", "--models-dir", shelf)
    assert isinstance(near, UnknownName)
    assert "did you mean single" in str(near)
    assert "no such file" in str(problem("inspect", tmp_path / "absent.safetensors"))
    assert "there is none of that name" in str(problem("list", "--models-dir", tmp_path / "absent"))
    source = shelf / "single.safetensors"
    assert "let it end in .safetensors" in str(problem("convert", source, tmp_path / "a", "--layout", "ldm"))
    assert "does not exist" in str(problem("convert", source, tmp_path / "absent" / "a.safetensors"))
    assert "pickles are not written; let it end in .safetensors" in str(problem("convert", source, tmp_path / "a.ckpt"))
    assert "--layout 'onnx': " in str(problem("convert", source, tmp_path / "a", "--layout", "onnx"))
    assert "--dtype 'fp8': " in str(problem("convert", source, tmp_path / "a", "--dtype", "fp8"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


def test_what_is_wrong_with_a_folder_names_the_file(shelf: Path) -> None:
    folder = shelf / "more" / "folder"
    settings = folder / "vae" / "config.json"
    settings.write_text(settings.read_text().replace("AutoencoderKL", "AutoencoderVQ"))
    found = json.loads(run("inspect", folder, "--json").stdout)
    assert (found["kind"], found["supported"]) == ("checkpoint", False)
    assert found["problem"].startswith("cannot be read: vae/config.json says _class_name is ")
    (folder / "scheduler" / "scheduler_config.json").unlink()
    assert "no: it cannot be read: scheduler/scheduler_config.json does not exist" in run("inspect", folder).stdout


def test_a_folder_without_what_is_asked_for_says_what_there_is(shelf: Path) -> None:
    folder = shelf / "more" / "folder"
    weights, there = folder / "unet" / "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.ema.safetensors"
    assert str(problem("inspect", folder, "--variant", "fp8")).endswith(
        "unet: holds no weights of the variant fp8; there is diffusion_pytorch_model.safetensors"
    )
    weights.rename(weights.with_name(there))
    assert str(problem("inspect", folder)).endswith(f"non_ema); there is {there}")
    (folder / "model_index.json").unlink()
    said = "is no model: a diffusers folder has a model_index.json; the folders of its networks can be inspected alone"
    assert str(problem("inspect", folder)).endswith(said)


def test_one_of_several_shards_is_no_model(shelf: Path) -> None:
    alone = (shelf / "single.safetensors").rename(shelf / "model-00001-of-00001.safetensors")
    found = json.loads(run("inspect", alone, "--json").stdout)
    assert (found["kind"], found["supported"], found["problem"]) == ("checkpoint", True, None)
    first = alone.rename(shelf / "model-00001-of-00012.safetensors")
    found = json.loads(run("inspect", first, "--json").stdout)
    assert (found["kind"], found["supported"]) == ("checkpoint", False)
    assert found["problem"] == "is one of 12 shards: name their folder or index"


def test_names_of_files_do_nothing_to_terminals(shelf: Path) -> None:
    file = shelf / "a\n\x1b[2Jb.safetensors"
    (shelf / "single.safetensors").rename(file)
    shown = run("list", "--models-dir", shelf).stdout
    assert "a\\n\\x1b[2Jb" in shown
    assert f"path        {shelf}/a\\n\\x1b[2Jb.safetensors\n" in run("inspect", file).stdout


def test_weights_that_cannot_be_read_are_not_called_missing(shelf: Path) -> None:
    file = shelf / "more" / "folder" / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(b"")
    assert str(problem("inspect", file.parent)) == f"{file}: is empty: get it again"
    assert str(problem("inspect", shelf / "more" / "folder")) == f"{file}: is empty: get it again"


@pytest.mark.parametrize("name", ["out.safetensors", "out"])
def test_a_full_disk_leaves_nothing(name: str, shelf: Path, tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        error = problem("convert", shelf / "single.safetensors", tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(error, StorageFull)
    assert str(error).startswith(f"{tmp_path / name}: the disk is full"), "what was asked for, and no temporary name"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


def test_convert_keeps_its_hands_off_folders_that_are_no_models(shelf: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "holiday.jpg").write_bytes(b"dear")
    error = problem("convert", shelf / "single.safetensors", photos, "--layout", "diffusers", "--overwrite")
    assert str(error).startswith(f"{photos}: ")
    assert (photos / "holiday.jpg").read_bytes() == b"dear"


def test_convert_replaces_a_model_and_nothing_beside_it(shelf: Path, tmp_path: Path) -> None:
    source, target = shelf / "single.safetensors", tmp_path / "there"
    assert run("convert", source, target).exit_code == 0
    assert run("convert", source, target, "--overwrite").exit_code == 0
    moved = source.rename(target / "base.safetensors")
    error = problem("convert", moved, target, "--overwrite")
    assert "(base.safetensors)" in str(error)
    assert moved.is_file()


def test_convert_refuses_what_could_not_be_painted_with(shelf: Path, tmp_path: Path) -> None:
    tensors = load_file(shelf / "single.safetensors")
    name = next(name for name in tensors if name.endswith("input_blocks.1.0.emb_layers.1.weight"))
    metadata = read_header(shelf / "single.safetensors").metadata
    save_file({**tensors, name: torch.zeros(7, 7)}, tmp_path / "bent.safetensors", dict(metadata))
    assert "7x7" in str(problem("convert", tmp_path / "bent.safetensors", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_convert_names_the_weights_as_a_variant(shelf: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")
    single, target = shelf / "single.safetensors", shelf / "half"
    assert "--as-variant" in str(problem("convert", single, target, "--as-variant"))
    assert "--as-variant" in str(problem("convert", single, shelf / "x.safetensors", "--dtype", "fp16", "--as-variant"))
    assert run("convert", single, target, "--dtype", "fp16", "--as-variant").exit_code == 0
    assert sorted(path.name for path in target.glob("*/*.safetensors")) == [
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "model.fp16.safetensors",
    ]
    loaded = diffusers.UNet2DConditionModel.from_pretrained(target / "unet", variant="fp16")
    assert sum(p.numel() for p in loaded.parameters()) == sum(p.numel() for p in model().networks["unet"].parameters())
    back = run("convert", target, shelf / "back.safetensors", "--variant", "fp16")
    assert back.exit_code == 0
