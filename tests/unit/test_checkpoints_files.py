"""Models in files of torch.save, with running means, in other spellings, in float8: opened by what they hold."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_weights_torch_file import watched
from torch import Tensor
from typer.testing import CliRunner

import tiny
from atelier.checkpoints.opening import families, open_checkpoint
from atelier.checkpoints.write import Modules, write_ldm
from atelier.cli.models import app
from atelier.errors import BadFile
from atelier.families.facts import Facts
from atelier.families.parts import UNET
from atelier.families.parts.clip import clip_l
from atelier.families.sd1 import SD1
from atelier.models.clip import ClipText, TextSpec
from atelier.models.unet import UNet, UNetSpec
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.request.table import request_of
from atelier.runtime.device import Device
from atelier.runtime.engine import Engine
from atelier.runtime.library import Library
from atelier.weights.formats.safetensors import read_header
from atelier.weights.hashes import HashCache

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
CPU = Device(torch.device("cpu"), torch.float32, torch.float32, max_batch=1)
UNET_PREFIX, CLIP = "model.diffusion_model.", "cond_stage_model.transformer."


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.single_file(tmp_path_factory.mktemp("single") / "tiny.safetensors")


@pytest.fixture(scope="module")
def spec(single: Path) -> dict[str, str]:
    return dict(read_header(single).metadata)


@pytest.fixture
def lightning() -> Iterator[type]:
    """A stand-in for the class that the checkpoints of the first releases name beside their weights."""
    names = ("pytorch_lightning", "pytorch_lightning.callbacks", "pytorch_lightning.callbacks.model_checkpoint")
    made = type("ModelCheckpoint", (), {"__module__": names[-1]})
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[names[-1]].ModelCheckpoint = made  # type: ignore[attr-defined]
    yield made
    for name in names:
        del sys.modules[name]


def trained(state: dict[str, Tensor], callback: type) -> dict[str, object]:
    """What a training of Lightning saves: the weights among much else."""
    import numpy as np

    held = callback()
    held.best_model_score = torch.tensor(0.5)
    return {
        "epoch": 12,
        "global_step": 470000,
        "pytorch-lightning_version": "1.4.2",
        "state_dict": state,
        "callbacks": {callback: {"best": np.float64(3.0), "kept": held}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(4)}}, "param_groups": [{"betas": (0.9, 0.999)}]}],
        "lr_schedulers": [{"lr_lambdas": [None]}],
    }


@FORMATS
def test_a_checkpoint_of_lightning_opens_as_the_same_model(
    zipped: bool, single: Path, lightning: type, tmp_path: Path
) -> None:
    path, state = tmp_path / "model.ckpt", load_file(single)
    torch.save(trained(state, lightning), path, _use_new_zipfile_serialization=zipped)
    families()
    with watched() as events:
        model = open_checkpoint(path)
    assert events == []
    assert (model.family.name, model.name, model.dtype) == ("sd1", "model", "fp32")
    assert model.metadata["global_step"] == "470000"
    expected = open_checkpoint(single).tensors(UNET)
    for name, tensor in model.tensors(UNET).items():
        assert torch.equal(tensor, expected[name]), name


def test_content_decides_and_not_the_ending(single: Path, tmp_path: Path) -> None:
    torch.save(load_file(single), tmp_path / "pickled.safetensors")
    (tmp_path / "safe.ckpt").write_bytes(single.read_bytes())
    for name in ("pickled.safetensors", "safe.ckpt"):
        assert open_checkpoint(tmp_path / name).family.name == "sd1"


def plain(path: Path) -> Path:
    """A small model of which the shapes say everything, as those of a pickled file must: it has no metadata of ours."""
    text = ClipText(TextSpec(width=64, layers=1, heads=1, mlp=32))
    unet = UNet(UNetSpec(widths=(32, 32), blocks=1, depth=(1, 0), heads=(8, 8), context=64))
    networks = {"unet": unet, "vae": AutoencoderKL(VaeSpec(widths=(32, 32), blocks=1)), "text": text}
    for network in networks.values():
        tiny.randomize(network, 1)
    write_ldm(Modules(SD1, networks, (clip_l(),), Facts()), path)
    return path


@FORMATS
def test_convert_makes_a_safe_file_of_a_pickled_one(zipped: bool, tmp_path: Path) -> None:
    state = load_file(plain(tmp_path / "plain.safetensors"))
    torch.save({"state_dict": state}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=zipped)
    done = CliRunner().invoke(app, ["convert", str(tmp_path / "old.ckpt"), str(tmp_path / "new.safetensors")])
    assert done.exit_code == 0, done.exception
    written = load_file(tmp_path / "new.safetensors")
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


def test_a_pickled_model_generates_what_the_same_safe_one_does(tmp_path: Path) -> None:
    state = load_file(plain(tmp_path / "safe.safetensors"))
    torch.save({"state_dict": state}, tmp_path / "pickled.ckpt")
    engine = Engine(CPU, Library((tmp_path,)), HashCache(), version="1")
    asked = {"prompt": "a cat", "steps": 2, "width": 64, "height": 64, "seed": 1}
    images = [engine.generate(request_of({**asked, "model": name}))[0].image for name in ("safe", "pickled")]
    assert images[0].tobytes() == images[1].tobytes()
    assert images[0].convert("L").getextrema() != (0, 0)


def test_novelai_left_out_a_level_of_names(single: Path, spec: dict[str, str], tmp_path: Path) -> None:
    level = f"{CLIP}text_model."
    renamed = {name.replace(level, CLIP): tensor for name, tensor in load_file(single).items()}
    save_file(renamed, tmp_path / "nai.safetensors", spec)
    assert not any(name.startswith(level) for name in renamed)
    ours, usual = open_checkpoint(tmp_path / "nai.safetensors"), open_checkpoint(single)
    text = usual.family.towers[0].part
    assert all(torch.equal(t, usual.tensors(text)[name]) for name, t in ours.tensors(text).items())


def means(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Running means of the denoiser's weights that differ from them, as CompVis' trainings name them."""
    inner = {name.removeprefix(UNET_PREFIX): t for name, t in state.items() if name.startswith(UNET_PREFIX)}
    return {prefix + name.replace(".", ""): tensor + 1 for name, tensor in inner.items()}


@pytest.mark.parametrize("prefix", ["model_ema.diffusion_model", "model_ema."])
def test_running_means_are_chosen_or_not(prefix: str, single: Path, spec: dict[str, str], tmp_path: Path) -> None:
    state, path = load_file(single), tmp_path / "full.safetensors"
    extra = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(3, dtype=torch.int32)}
    save_file({**state, **means(state, prefix), **extra}, path, spec)
    plain, mean = open_checkpoint(path).tensors(UNET), open_checkpoint(path, ema=True).tensors(UNET)
    assert plain.keys() == mean.keys()
    assert all(torch.equal(mean[name], plain[name] + 1) for name in plain)
    done = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "ema.safetensors"), "--ema"])
    assert done.exit_code == 0, done.exception
    converted = open_checkpoint(tmp_path / "ema.safetensors").tensors(UNET)
    assert all(torch.equal(converted[name], mean[name]) for name in mean)


def test_asking_for_running_means_that_are_not_there(single: Path, tiny_folder: Path) -> None:
    with pytest.raises(BadFile, match="has no running mean"):
        open_checkpoint(single, ema=True)
    with pytest.raises(BadFile, match="is a folder, which has no running mean"):
        open_checkpoint(tiny_folder, ema=True)


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("pickled", [True, False])
def test_float8_is_upcast_when_it_is_loaded(
    kind: torch.dtype, pickled: bool, single: Path, spec: dict[str, str], tmp_path: Path
) -> None:
    state, path = {name: tensor.to(kind) for name, tensor in load_file(single).items()}, tmp_path / "small.ckpt"
    torch.save(state, path) if pickled else save_file(state, path, spec)
    model = open_checkpoint(path)
    assert model.dtype == str(kind).removeprefix("torch.")
    expected = open_checkpoint(single).tensors(UNET)
    for name, tensor in model.tensors(UNET, torch.float32).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name].to(kind).float()), name


def pickled_folder(source: Path, target: Path, *, shards: int = 0) -> Path:
    """A folder as diffusers and transformers wrote them before safetensors: .bin, whole or in shards."""
    import json
    import shutil

    shutil.copytree(source, target)
    for file in list(target.glob("*/*.safetensors")):
        stem = "pytorch_model" if file.stem == "model" else file.stem
        state = load_file(file)
        file.unlink()
        if not shards:
            torch.save(state, file.with_name(f"{stem}.bin"))
            continue
        placed: dict[str, str] = {}
        for number in range(shards):
            name = f"{stem}-{number + 1:05}-of-{shards:05}.bin"
            part = dict(list(state.items())[number::shards])
            torch.save(part, file.with_name(name))
            placed |= dict.fromkeys(part, name)
        index = {"metadata": {"total_size": 1}, "weight_map": placed}
        file.with_name(f"{stem}.bin.index.json").write_text(json.dumps(index))
    return target


def cached_folder(source: Path, target: Path) -> Path:
    """A folder as the cache of the Hugging Face hub has it: links out of it, to files that are called by hashes."""
    import shutil

    blobs, snapshot = target / "blobs", target / "snapshots" / "main"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        link = snapshot / file.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blobs / f"{number:040x}")
        link.symlink_to(os.path.relpath(blobs / f"{number:040x}", link.parent))
    return snapshot


@pytest.mark.parametrize("shards", [0, 3])
def test_folders_of_links_open_as_the_hub_caches_them(shards: int, tiny_folder: Path, tmp_path: Path) -> None:
    """Safetensors, and shards with their index."""
    source = pickled_folder(tiny_folder, tmp_path / "old", shards=shards) if shards else tiny_folder
    cached = open_checkpoint(cached_folder(source, tmp_path / "models--somebody--tiny"))
    plain = open_checkpoint(source)
    assert cached.sha256() == plain.sha256()
    for part in filter(plain.has, plain.family.parts):
        expected = plain.tensors(part)
        found = cached.tensors(part, mapped=False)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("shards", [0, 3])
def test_folders_of_pickled_weights_open(shards: int, tiny_folder: Path, tmp_path: Path) -> None:
    model = open_checkpoint(pickled_folder(tiny_folder, tmp_path / "old", shards=shards))
    usual = open_checkpoint(tiny_folder)
    for part in model.family.parts:
        if usual.has(part):
            expected = usual.tensors(part)
            assert all(torch.equal(t, expected[name]) for name, t in model.tensors(part).items()), part.name


def test_an_index_that_lies_about_pickled_shards_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = pickled_folder(tiny_folder, tmp_path / "old", shards=2)
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(BadFile, match="does not exist"):
        open_checkpoint(folder)


@pytest.mark.parametrize(("scale", "mark"), [("scale_weight", "scaled_fp8"), ("weight_scale", "")])
@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_with_scales_is_what_it_stands_for(
    kind: torch.dtype, scale: str, mark: str, single: Path, spec: dict[str, str], tmp_path: Path
) -> None:
    """As ComfyUI writes them: each linear layer divided by its largest number, which lies beside it."""
    state, expected = load_file(single), dict[str, Tensor]()
    for name, weight in list(state.items()):
        if name.startswith("model.diffusion_model.") and name.endswith(".weight") and weight.ndim == 2:
            layer, factor = name.removesuffix("weight"), weight.abs().max() / 448
            state[name] = (weight / factor).to(kind)
            state |= {f"{layer}{scale}": factor, f"{layer}scale_input": torch.ones(())}
            expected[name] = state[name].float() * factor
    if mark:
        state[f"model.diffusion_model.{mark}"] = torch.zeros(2).to(kind)
    save_file(state, tmp_path / "scaled.safetensors", spec)
    model, plain = open_checkpoint(tmp_path / "scaled.safetensors"), open_checkpoint(single)
    names = {name.ours: f"model.diffusion_model.{name.ldm}" for name in UNET.network.names(model.spec(UNET))}
    whole = plain.tensors(UNET)
    for ours, tensor in model.tensors(UNET, torch.float32).items():
        assert torch.equal(tensor, expected.get(names[ours], whole[ours]).reshape(tensor.shape)), ours
    assert len(expected) > 5
    stored = model.tensors(UNET)
    assert {stored[ours].dtype for ours, name in names.items() if name in expected} == {torch.bfloat16}
