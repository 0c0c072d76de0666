"""A LoRA out of two models: exact at full rank, the best there is at a lower one, and a model's effect without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import tiny
from atelier.checkpoints.write import Modules, write_diffusers
from atelier.cli.app import run
from pipeline_support import engine_on, request

TO_K = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k"
CONV = "lora_unet_down_blocks_1_resnets_0_conv1"


def moved(made: Modules, *parts: str, amount: float = 0.05) -> Modules:
    """With noise on every parameter of these networks but the tables of vectors."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for part in parts:
            for name, parameter in made.networks[part].named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if "embedding.weight" not in name:
                    parameter.add_(amount * noise)
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.folder(folder / "tiny")
    write_diffusers(moved(tiny.modules(), "unet", "text"), folder / "tuned")
    return folder


def extract(models: Path, target: Path, *options: str) -> Path:
    target.parent.mkdir(exist_ok=True)
    paths = [str(models / "tiny"), str(models / "tuned"), str(target)]
    assert run(["models", "extract-lora", *paths, *options]) == 0
    return target


def test_at_full_rank_the_image_is_the_tuned_models(models: Path, capsys: pytest.CaptureFixture[str]):
    extract(models, models / "lora" / "full.safetensors", "--rank", "1000", "--whole", "--dtype", "fp32")
    assert "100.0% of the squared difference" in capsys.readouterr().out
    engine = engine_on(models / "tiny")
    (tuned,) = engine.generate(request(model="tuned"))
    (ours,) = engine.generate(request(prompt="a red cat<lora:full>"))
    (plain,) = engine.generate(request())
    assert far(ours.image, tuned.image) <= 1
    assert far(plain.image, tuned.image) > 50


def far(one: object, other: object) -> int:
    import numpy as np

    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())


def test_a_lower_rank_is_the_best_there_is(models: Path, capsys: pytest.CaptureFixture[str]):
    found = load_file(
        extract(models, models / "lora" / "low.safetensors", "--rank", "3", "--conv-rank", "5", "--dtype", "fp32")
    )
    assert {name.partition("_")[2].partition("_")[0] for name in found} == {"unet", "te"}
    before, after = (
        made.networks["unet"].middle.attention.blocks[0].attn1.to_k.weight.detach()
        for made in (tiny.modules(), moved(tiny.modules(), "unet", "text"))
    )
    up, down = found[f"{TO_K}.lora_up.weight"], found[f"{TO_K}.lora_down.weight"]
    assert float(found[f"{TO_K}.alpha"]) == len(down) == 3
    values = torch.linalg.svdvals(after - before)
    missed = float((after - before - up @ down).norm())
    assert missed == pytest.approx(float(values[3:].square().sum().sqrt()), rel=1e-4)
    assert found[f"{CONV}.lora_down.weight"].shape == (5, 32, 3, 3)
    assert found[f"{CONV}.lora_up.weight"].shape == (64, 5, 1, 1)
    assert not any("norm" in name or name.endswith("diff_b") for name in found)
    assert "left out what differs in tensors (" in capsys.readouterr().out


def test_the_file_says_what_it_is(models: Path):
    path = extract(models, models / "lora" / "told.safetensors", "--rank", "2", "--conv-rank", "0")
    with safe_open(path, "pt") as file:
        said = file.metadata()
        names = set(file.keys())
        assert file.get_tensor(f"{TO_K}.lora_up.weight").dtype == torch.float16
    assert not any("conv" in name and "shortcut" not in name for name in names)
    expected = {"ss_network_dim": "2", "ss_base_model_version": "sd_v1_v", "ss_output_name": "told"}
    assert expected.items() <= said.items()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("tiny", "tiny", "a.safetensors"), "have the same weights in all layers: there is nothing to extract"),
        (("tiny", "other", "a.safetensors"), "have a U-Net of different sizes: choose two alike"),
        (("tiny", "tuned", "a.ckpt"), "is no name for a single file; let it end in .safetensors"),
        (("tiny", "tuned", f"{'a' * 300}.safetensors"), "cannot be used (File name too long)"),
        (("tiny", "tuned", "there.safetensors"), "exists already; choose another name, or add --overwrite"),
    ],
)
def test_what_cannot_be_extracted_is_refused(
    models: Path, tmp_path: Path, names: tuple[str, str, str], told: str, capsys: pytest.CaptureFixture[str]
):
    if names[1] == "other":
        tiny.folder(models / "other", in_channels=9)
    (tmp_path / "there.safetensors").touch()
    base, tuned, target = names
    assert run(["models", "extract-lora", str(models / base), str(models / tuned), str(tmp_path / target)]) == 2
    assert told in capsys.readouterr().err.replace("\n", " ")
