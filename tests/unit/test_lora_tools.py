"""LoRA files of another rank, several as one, and models with them in their weights: against the arithmetic by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from adapter_support import EXAMPLES, drawn
from atelier.adapters.attach import Strong, attached
from atelier.adapters.read import deltas, matched, open_adapter
from atelier.checkpoints.opening import open_checkpoint
from atelier.cli.app import run
from atelier.families.part import PartSpec
from atelier.families.parts import TEXT, UNET

BLOCK = "lora_unet_mid_block_attentions_0_transformer_blocks_0"
TO_K, TO_Q, FF = f"{BLOCK}_attn1_to_k", f"{BLOCK}_attn1_to_q", f"{BLOCK}_ff_net_2"
CONV = "lora_unet_down_blocks_1_resnets_0_conv1"
NORM = "lora_unet_conv_norm_out"
FC1 = "lora_te_text_model_encoder_layers_0_mlp_fc1"
PARTS: tuple[PartSpec[Any, Any], ...] = (UNET, TEXT)
SHAPES = {TO_K: (64, 64), TO_Q: (64, 64), FF: (64, 256), CONV: (64, 32, 3, 3), FC1: (64, 32)}


def lora(rank: int, *names: str, seed: int = 0, alpha: float = 2.0) -> dict[str, Tensor]:
    """With singular values that fall."""
    torch.manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name in names:
        out, *into = SHAPES[name]
        ones = (1,) * (len(into) - 1)
        made[f"{name}.lora_up.weight"] = torch.randn(out, rank, *ones) * (
            0.7 ** torch.arange(rank).reshape(1, -1, *ones)
        )
        made[f"{name}.lora_down.weight"] = torch.randn(rank, *into)
        made[f"{name}.alpha"] = torch.tensor(alpha)
    return made


def product(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """alpha / r * up @ down, as a matrix."""
    up, down = (tensors[f"{name}.lora_{side}.weight"].double().flatten(1) for side in ("up", "down"))
    alpha = tensors.get(f"{name}.alpha", torch.tensor(float(len(down))))
    return float(alpha) / len(down) * up @ down


def command(*words: object) -> int:
    return run(["models", *(str(word) for word in words)])


def made(*words: object, target: Path) -> dict[str, Tensor]:
    assert command(*words, target) == 0
    return load_file(target)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    path = tmp_path / "wide.safetensors"
    save_file(lora(8, TO_K, FF, CONV, FC1), path, {"ss_network_dim": "8", "ss_output_name": "wide", "own": "kept"})
    return path


def test_a_lower_rank_is_what_singular_values_say(wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = load_file(wide)
    after = made("resize-lora", wide, "--rank", 3, "--conv-rank", 5, target=tmp_path / "narrow.safetensors")
    assert after.keys() == before.keys()
    missed = total = 0.0
    for name, rank in ((TO_K, 3), (FF, 3), (CONV, 5), (FC1, 3)):
        assert after[f"{name}.lora_down.weight"].shape == (rank, *before[f"{name}.lora_down.weight"].shape[1:])
        assert after[f"{name}.lora_up.weight"].ndim == before[f"{name}.lora_up.weight"].ndim
        assert float(after[f"{name}.alpha"]) == pytest.approx(2.0 * rank / 8)
        values = torch.linalg.svdvals(product(before, name))
        left = float((product(before, name) - product(after, name)).norm())
        assert left == pytest.approx(float(values[rank:].square().sum().sqrt()), rel=1e-4)
        missed, total = missed + left**2, total + float(values.square().sum())
    assert f"4 layers at ranks 3 to 5, {1 - missed / total:.1%} of the squared difference" in capsys.readouterr().out


def test_the_resized_file_says_so(wide: Path, tmp_path: Path):
    made("resize-lora", wide, "--rank", 3, target=tmp_path / "narrow.safetensors")
    with safe_open(tmp_path / "narrow.safetensors", "pt") as file:
        said = file.metadata()
    wanted = {
        "ss_network_dim": "3",
        "ss_network_alpha": "0.75",
        "ss_output_name": "wide",
        "own": "kept",
        "ss_training_comment": "dimension is resized from 8 to 3; None",
    }
    assert wanted.items() <= said.items()
    content = (tmp_path / "narrow.safetensors").read_bytes()
    body = content[8 + int.from_bytes(content[:8], "little") :]
    assert said["sshs_model_hash"] == hashlib.sha256(body).hexdigest()


def kohya(values: Tensor, rule: str, bound: float) -> int:
    """The rules of kohya's script, restated."""
    if rule == "keep":
        return next(n for n in range(1, len(values) + 1) if values[:n].sum() / values.sum() >= bound)
    if rule == "frobenius":
        norm = values.square().sum()
        return next(n for n in range(1, len(values) + 1) if values[:n].square().sum() / norm >= bound**2)
    return sum(float(value) > float(values[0]) / bound for value in values)


@pytest.mark.parametrize(("rule", "bound"), [("keep", 0.7), ("keep", 0.9), ("frobenius", 0.9), ("ratio", 4.0)])
def test_every_layer_has_the_rank_that_the_rule_tells(rule: str, bound: float, wide: Path, tmp_path: Path):
    before = load_file(wide)
    after = made("resize-lora", wide, f"--{rule}", bound, target=tmp_path / "narrow.safetensors")
    ranks = {name: len(after[f"{name}.lora_down.weight"]) for name in (TO_K, FF, CONV, FC1)}
    assert ranks == {name: kohya(torch.linalg.svdvals(product(before, name))[:8], rule, bound) for name in ranks}
    with safe_open(tmp_path / "narrow.safetensors", "pt") as file:
        words = {"keep": "sv_cumulative", "frobenius": "sv_fro", "ratio": "sv_ratio"}
        assert file.metadata()["ss_training_comment"].startswith(f"Dynamic resize with {words[rule]}: {bound:g} from 8")
    limited = made("resize-lora", wide, f"--{rule}", bound, "--rank", 2, target=tmp_path / "two.safetensors")
    assert {len(limited[f"{name}.lora_down.weight"]) for name in ranks} == {2}


def test_what_is_beside_the_factors_stays_and_a_core_goes_into_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.manual_seed(1)
    core = {
        f"{CONV}.lora_up.weight": torch.randn(64, 6, 1, 1),
        f"{CONV}.lora_mid.weight": torch.randn(6, 6, 3, 3),
        f"{CONV}.lora_down.weight": torch.randn(6, 32, 1, 1),
        f"{CONV}.alpha": torch.tensor(3.0),
        f"{FF}.hada_w1_a": torch.randn(64, 2),
        f"{FF}.hada_w1_b": torch.randn(2, 256),
        f"{FF}.hada_w2_a": torch.randn(64, 2),
        f"{FF}.hada_w2_b": torch.randn(2, 256),
        f"{TO_K}.dora_scale": torch.rand(64, 1),
        **lora(4, TO_K),
    }
    save_file(core, tmp_path / "core.safetensors")
    after = made("resize-lora", tmp_path / "core.safetensors", "--rank", 6, target=tmp_path / "flat.safetensors")
    assert f"{CONV}.lora_mid.weight" not in after
    left, right = core[f"{CONV}.lora_up.weight"][:, :, 0, 0], core[f"{CONV}.lora_down.weight"][:, :, 0, 0]
    whole = 3.0 / 6 * torch.einsum("abkl,oa,bi->oikl", core[f"{CONV}.lora_mid.weight"], left, right)
    torch.testing.assert_close(product(after, CONV).float(), whole.flatten(1), rtol=1e-3, atol=1e-4)
    for name in (f"{FF}.hada_w1_a", f"{FF}.hada_w2_b", f"{TO_K}.dora_scale"):
        assert torch.equal(after[name], core[name])
    assert f"left as they are: 1 layer ({FF}) of other kinds" in capsys.readouterr().out


@pytest.mark.parametrize(("more", "scale"), [("", 10 / 4), (', "unet.use_rslora": true', 10 / 4**0.5)])
def test_an_alpha_in_the_metadata_goes_into_a_factor(more: str, scale: float, tmp_path: Path):
    """PEFT's settings would no longer be true."""
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k"
    tensors = {f"{name}.lora_A.weight": drawn(4, 64), f"{name}.lora_B.weight": drawn(64, 4)}
    settings = f'{{"unet.r": 4, "unet.lora_alpha": 10, "unet.alpha_pattern": {{}}{more}}}'
    said = {"lora_adapter_metadata": settings}
    save_file(tensors, tmp_path / "peft.safetensors", said)
    after = made("resize-lora", tmp_path / "peft.safetensors", "--rank", 4, target=tmp_path / "same.safetensors")
    whole = scale * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
    made_again = after[f"{name}.lora_B.weight"] @ after[f"{name}.lora_A.weight"]
    torch.testing.assert_close(made_again, whole, rtol=1e-5, atol=1e-4)
    with safe_open(tmp_path / "same.safetensors", "pt") as file:
        assert "lora_adapter_metadata" not in file.metadata()


def test_joined_they_do_what_they_do_together(tmp_path: Path):
    one = lora(4, TO_K, CONV) | {f"{CONV}.diff_b": drawn(64), f"{NORM}.w_norm": drawn(32)}
    two = lora(3, TO_K, FC1, seed=1, alpha=5.0) | {f"{NORM}.w_norm": drawn(32) + 1}
    save_file(one, tmp_path / "a.safetensors", {"ss_base_model_version": "sd_v1"})
    save_file(two, tmp_path / "b.safetensors")
    words = (tmp_path / "a.safetensors:0.8", f"{tmp_path / 'b.safetensors'}:-0.5", "--dtype", "fp32")
    both = made("merge-lora", *words, target=tmp_path / "both.safetensors")
    wanted = {
        TO_K: 0.8 * product(one, TO_K) - 0.5 * product(two, TO_K),
        CONV: 0.8 * product(one, CONV),
        FC1: -0.5 * product(two, FC1),
    }
    for name, difference in wanted.items():
        torch.testing.assert_close(product(both, name), difference, rtol=1e-5, atol=1e-5)
    assert both[f"{TO_K}.lora_down.weight"].shape == (7, 64)
    assert float(both[f"{TO_K}.alpha"]) == 7
    assert both[f"{CONV}.lora_down.weight"].shape == (4, 32, 3, 3)
    torch.testing.assert_close(both[f"{CONV}.diff_b"], 0.8 * one[f"{CONV}.diff_b"])
    torch.testing.assert_close(both[f"{NORM}.w_norm"], 0.8 * one[f"{NORM}.w_norm"] - 0.5 * two[f"{NORM}.w_norm"])
    with safe_open(tmp_path / "both.safetensors", "pt") as file:
        said = file.metadata()
    assert said["ss_training_comment"] == "merged from a:0.8, b:-0.5"
    assert (said["ss_base_model_version"], said["ss_network_dim"]) == ("sd_v1", "Dynamic")


def test_joined_and_narrowed_they_are_the_best_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    one, two = lora(4, TO_K), lora(3, TO_K, seed=1)
    save_file(one, tmp_path / "a.safetensors")
    save_file(two, tmp_path / "b.safetensors")
    words = (tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--rank", 2, "--dtype", "fp32")
    both = made("merge-lora", *words, target=tmp_path / "both.safetensors")
    whole = product(one, TO_K) + product(two, TO_K)
    values = torch.linalg.svdvals(whole)
    missed = float((whole - product(both, TO_K)).norm())
    assert missed == pytest.approx(float(values[2:].square().sum().sqrt()), rel=1e-4)
    share = 1 - missed**2 / float(values.square().sum())
    assert f"1 layers at rank 2, {share:.1%} of the squared difference" in capsys.readouterr().out


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.single_file(tmp_path_factory.mktemp("model") / "tiny.safetensors")


def mixed(folder: Path) -> tuple[Path, Path]:
    """A LoHa and a DoRA beside a LoRA, on the same layers."""
    loha = {f"{FF}.{end}": 0.1 * tensor for end, tensor in EXAMPLES["LoHa"]["loha"].tensors((64, 256)).items()}
    save_file(loha | lora(2, TO_Q), folder / "loha.safetensors")
    save_file(lora(2, FF, TO_Q, FC1) | {f"{FF}.dora_scale": torch.rand(64, 1)}, folder / "dora.safetensors")
    return folder / "loha.safetensors", folder / "dora.safetensors"


def test_kinds_without_a_sum_go_through_the_difference_on_a_model(model: Path, tmp_path: Path):
    loha, dora = mixed(tmp_path)
    checkpoint = open_checkpoint(model)
    words = (f"{loha}:0.5", f"{dora}:0.7", "--base", model, "--rank", 64, "--dtype", "fp32")
    made("merge-lora", *words, target=tmp_path / "both.safetensors")
    both = open_adapter(tmp_path / "both.safetensors")
    for part in PARTS:
        net = checkpoint.load(part, torch.float32)
        changes: dict[str, list[Strong]] = {}
        for path, strength in ((loha, 0.5), (dora, 0.7)):
            for name, (delta, _) in deltas(matched(open_adapter(path), checkpoint), part.name).items():
                changes.setdefault(name, []).append(Strong(delta, strength))
        with attached(net, changes, "merge"):
            wanted = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        ours = {n: [Strong(d, 1.0)] for n, (d, _) in deltas(matched(both, checkpoint), part.name).items()}
        with attached(net, ours, "merge"):
            found = net.state_dict()
            assert changes.keys() == ours.keys()
            for name in changes:
                torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_a_baked_model_is_the_one_with_them_attached(model: Path, dtype: str | None, tmp_path: Path):
    loha, dora = mixed(tmp_path)
    target = tmp_path / "baked.safetensors"
    words = () if dtype is None else ("--dtype", dtype)
    assert command("bake", model, f"{loha}:0.5", dora, target, *words) == 0
    precision = torch.float32 if dtype is None else torch.bfloat16
    before, after = open_checkpoint(model), open_checkpoint(target)
    for part in PARTS:
        net = before.load(part, precision)
        changes: dict[str, list[Strong]] = {}
        for path, strength in ((loha, 0.5), (dora, 1.0)):
            for name, (delta, _) in deltas(matched(open_adapter(path), before), part.name).items():
                changes.setdefault(name, []).append(Strong(delta, strength))
        plain = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        with attached(net, changes, "merge"):
            wanted = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        found = after.tensors(part)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert {name for name in wanted if not torch.equal(wanted[name], plain[name])} == changes.keys()
    vae = before.family.part("vae")
    assert vae is not None
    assert after.metadata["modelspec.merged_from"] == "tiny, loha:0.5, dora:1"
    kept, there = before.tensors(vae, precision), after.tensors(vae)
    assert all(torch.equal(kept[name], there[name]) for name in kept)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("resize-lora", "{a}"), "say one of --rank, --keep, --ratio and --frobenius"),
        (("resize-lora", "{a}", "--keep", "0.5", "--ratio", "2"), "say one of --rank"),
        (("resize-lora", "{a}", "--keep", "1.5"), "--keep 1.5: it must be more than 0 and at most 1"),
        (("resize-lora", "{a}", "--ratio", "1"), "--ratio 1: it must be more than 1"),
        (("resize-lora", "{loha}", "--rank", "2"), "has no LoRA to resize, but LoHa"),
        (("resize-lora", "{nan}", "--rank", "2"), "has NaN or infinity in lora_unet_mid_block"),
        (("merge-lora", "{a}:200", "{a}"), "a strength of 200: -100 to 100 can be used"),
        (("merge-lora", "{a}", "{loha}"), "(LoHa) cannot be joined exactly: name the model that they are for (--base)"),
        (("merge-lora", "{a}", "{full}"), "one adapter has a LoRA for it, another a full difference"),
        (("merge-lora", "{odd}", "{a}"), "name its model with --base"),
        (("bake", "{model}", "{odd}"), "has no layer that tiny has"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: tuple[str, ...], told: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    files = {
        "a": lora(4, TO_K),
        "loha": {f"{FF}.{end}": t for end, t in EXAMPLES["LoHa"]["loha"].tensors((64, 256)).items()},
        "nan": {name: tensor * float("nan") for name, tensor in lora(4, TO_K).items()},
        "full": {f"{TO_K}.diff": drawn(64, 64)},
        "odd": {f"lora_unet_nowhere.lora_{side}.weight": torch.ones(2, 2) for side in ("up", "down")},
    }
    paths = {"model": str(model)}
    for name, tensors in files.items():
        paths[name] = str(tmp_path / f"{name}.safetensors")
        save_file(tensors, paths[name])
    first, *rest = (word.format(**paths) for word in words)
    assert command(first, *rest, tmp_path / "out.safetensors") == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out.safetensors").exists()
