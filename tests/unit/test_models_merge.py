"""`atelier models merge` and `prune`: the arithmetic written out by hand, and what is written beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_checkpoints_kinds import published, sparse
from torch import Tensor
from typer.testing import CliRunner

import tiny
from atelier.checkpoints import ahead, merging
from atelier.checkpoints.opening import open_checkpoint
from atelier.cli.models import app
from atelier.errors import AtelierError, BadFile
from atelier.weights.formats.safetensors import Header, read_header

UNET = "model.diffusion_model."


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.exception
    return done.stdout


def problem(*arguments: object) -> str:
    error = CliRunner().invoke(app, [str(argument) for argument in arguments]).exception
    assert isinstance(error, AtelierError)
    assert str(error).isprintable()
    return str(error)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of one family, and one of them for inpainting."""
    folder = tmp_path_factory.mktemp("shelf")
    base = tiny.single_file(folder / "a.safetensors")
    metadata = {**read_header(base).metadata, "modelspec.license": "CC0", "sshs_model_hash": "stale"}
    state = load_file(base)
    save_file(state, base, metadata)
    for number, name in enumerate(("b", "c"), start=1):
        torch.manual_seed(number)
        save_file(
            {n: t + torch.randn(t.shape) * 0.1 for n, t in state.items()}, folder / f"{name}.safetensors", metadata
        )
    wide = state[f"{UNET}input_blocks.0.0.weight"]
    wider = torch.cat([wide, torch.ones(wide.shape[0], 5, 3, 3)], dim=1)
    save_file({**state, f"{UNET}input_blocks.0.0.weight": wider}, folder / "paint.safetensors", metadata)
    return folder


def states(shelf: Path, *names: str) -> list[dict[str, Tensor]]:
    return [load_file(shelf / f"{name}.safetensors") for name in names]


def test_a_weighted_sum(shelf: Path, tmp_path: Path) -> None:
    said = run("merge", shelf / "a.safetensors", shelf / "b.safetensors", tmp_path / "m.safetensors", "--weight", 0.3)
    a, b, merged = *states(shelf, "a", "b"), load_file(tmp_path / "m.safetensors")
    assert merged.keys() == a.keys()
    for name, tensor in merged.items():
        assert torch.allclose(tensor, 0.7 * a[name] + 0.3 * b[name], atol=1e-6), name
    assert f"{sum(t.numel() > 0 for t in a.values())} tensors merged" in said


def test_what_one_model_has_beyond_another_is_added(shelf: Path, tmp_path: Path) -> None:
    a, b, c = (shelf / f"{name}.safetensors" for name in "abc")
    run("merge", a, b, tmp_path / "m.safetensors", "--minus", c, "--weight", 0.8)
    first, second, third = states(shelf, "a", "b", "c")
    for name, tensor in load_file(tmp_path / "m.safetensors").items():
        assert torch.allclose(tensor, first[name] + 0.8 * (second[name] - third[name]), atol=1e-6), name


def test_blocks_have_weights_of_their_own(shelf: Path, tmp_path: Path) -> None:
    a, b = (shelf / f"{name}.safetensors" for name in "ab")
    inputs, outputs = merging.blocks_of(read_header(a).tensors)
    assert (inputs, outputs) == (4, 4)
    weights = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    run("merge", a, b, tmp_path / "m.safetensors", "--blocks", ",".join(map(str, weights)))
    first, second = states(shelf, "a", "b")
    merged = load_file(tmp_path / "m.safetensors")
    expected = {
        "cond_stage_model.": 0.0,
        "first_stage_model.": 0.0,
        f"{UNET}time_embed.": 0.0,
        f"{UNET}input_blocks.0.": 0.1,
        f"{UNET}input_blocks.3.": 0.4,
        f"{UNET}middle_block.": 0.5,
        f"{UNET}output_blocks.0.": 0.6,
        f"{UNET}output_blocks.3.": 0.9,
        f"{UNET}out.": 0.9,
    }
    for prefix, weight in expected.items():
        names = [name for name in merged if name.startswith(prefix)]
        assert names, prefix
        for name in names:
            assert torch.allclose(merged[name], torch.lerp(first[name], second[name], weight), atol=1e-6), name


def test_a_model_for_inpainting_takes_what_reads_the_latent(shelf: Path, tmp_path: Path) -> None:
    run("merge", shelf / "paint.safetensors", shelf / "b.safetensors", tmp_path / "m.safetensors", "--weight", 1)
    name = f"{UNET}input_blocks.0.0.weight"
    found, (paint, b) = load_file(tmp_path / "m.safetensors")[name], states(shelf, "paint", "b")
    assert torch.allclose(found[:, :4], b[name])
    assert torch.equal(found[:, 4:], paint[name][:, 4:])
    said = problem("merge", shelf / "b.safetensors", shelf / "paint.safetensors", tmp_path / "n.safetensors")
    assert "has to be the first" in said
    assert not (tmp_path / "n.safetensors").exists()


@pytest.mark.parametrize(("second", "third"), [("paint2", "c"), ("b", "paint2")])
def test_what_is_added_is_what_all_three_have(shelf: Path, tmp_path: Path, second: str, third: str) -> None:
    """Of two models for inpainting and one that is none, the channels of the latent."""
    name = f"{UNET}input_blocks.0.0.weight"
    (paint, b) = states(shelf, "paint", "b")
    wide = {**b, name: torch.cat([b[name] + 1, torch.full((len(b[name]), 5, 3, 3), 3.0)], dim=1)}
    save_file(wide, tmp_path / "paint2.safetensors")
    first, one, two = (
        (tmp_path if own == "paint2" else shelf) / f"{own}.safetensors" for own in ("paint", second, third)
    )
    run("merge", first, one, tmp_path / "m.safetensors", "--minus", two, "--weight", 0.5)
    found = load_file(tmp_path / "m.safetensors")[name]
    expected = paint[name][:, :4] + 0.5 * (load_file(one)[name][:, :4] - load_file(two)[name][:, :4])
    assert torch.allclose(found[:, :4], expected, atol=1e-6)
    assert torch.equal(found[:, 4:], paint[name][:, 4:])


def test_float8_with_scales_is_merged_and_pruned_as_what_it_stands_for(shelf: Path, tmp_path: Path) -> None:
    """As ComfyUI writes it: a layer divided by its largest number, which lies beside it."""
    (a, b), name = states(shelf, "a", "b"), f"{UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    factor = a[f"{name}.weight"].abs().max() / 448 * 1e-3
    weight = (a[f"{name}.weight"] * 1e-3 / factor).to(torch.float8_e4m3fn)
    mark = {f"{UNET}scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}
    scaled = tmp_path / "scaled.safetensors"
    save_file({**a, f"{name}.weight": weight, f"{name}.scale_weight": factor, **mark}, scaled)
    run("prune", scaled, tmp_path / "p.safetensors")
    run("merge", scaled, shelf / "b.safetensors", tmp_path / "m.safetensors", "--weight", 0.25)
    pruned, merged = (load_file(tmp_path / f"{own}.safetensors") for own in "pm")
    assert pruned.keys() == merged.keys() == a.keys()
    assert pruned[f"{name}.weight"].dtype == merged[f"{name}.weight"].dtype == torch.bfloat16
    own = weight.float() * factor
    assert torch.equal(pruned[f"{name}.weight"], own.bfloat16())
    expected = 0.75 * own.bfloat16().float() + 0.25 * b[f"{name}.weight"]
    assert torch.equal(merged[f"{name}.weight"], expected.bfloat16())


def test_the_file_says_what_was_done_and_still_opens(shelf: Path, tmp_path: Path) -> None:
    a, b = (shelf / f"{name}.safetensors" for name in "ab")
    run("merge", a, b, tmp_path / "m.safetensors", "--weight", 0.25, "--dtype", "fp16")
    metadata = read_header(tmp_path / "m.safetensors").metadata
    assert json.loads(metadata["sd_merge_recipe"]) == {
        "type": "atelier",
        "interp_method": "Weighted sum",
        "multiplier": 0.25,
        "primary_model_hash": hashlib.sha256(a.read_bytes()).hexdigest(),
        "secondary_model_hash": hashlib.sha256(b.read_bytes()).hexdigest(),
    }
    assert (metadata["modelspec.merged_from"], metadata["modelspec.license"]) == ("a, b", "CC0")
    assert "sshs_model_hash" not in metadata
    model = open_checkpoint(tmp_path / "m.safetensors")
    assert (model.family.name, model.dtype, model.facts.prediction) == ("sd1", "fp16", "velocity")


def test_little_of_a_model_is_in_memory(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    load = merging.safetensors.load

    def watched(header: Header, names: Iterable[str], **how: bool) -> dict[str, Tensor]:
        found = load(header, names, mapped=how["mapped"])
        read.append(sum(tensor.nbytes for tensor in found.values()))
        return found

    monkeypatch.setattr(merging.safetensors, "load", watched)
    monkeypatch.setattr(ahead, "AHEAD", 300_000)
    run("merge", shelf / "a.safetensors", shelf / "b.safetensors", tmp_path / "m.safetensors")
    whole = sum(tensor.nbytes for tensor in states(shelf, "a")[0].values())
    assert whole > 900_000
    assert max(read) <= 300_000
    assert sum(read) == 2 * whole


def test_what_does_not_go_together_is_one_line(shelf: Path, tiny_folder: Path, tmp_path: Path) -> None:
    a, target = shelf / "a.safetensors", tmp_path / "m.safetensors"
    save_file({"lora_unet_a.lora_down.weight": torch.ones(4, 8)}, tmp_path / "lora.safetensors")
    assert "is a LoRA, and no model in one file" in problem("merge", a, tmp_path / "lora.safetensors", target)
    assert "is a folder: convert it" in problem("merge", a, tiny_folder, target)
    assert "3 weights, and this model needs 10" in problem("merge", a, a, target, "--blocks", "1,2,3")
    assert str(problem("merge", a, a, target, "--blocks", "1,2", "--weight", "0.5")) == (
        "--weight and --blocks exclude each other: the first of --blocks is that of what is in no block"
    )
    assert "give numbers" in problem("merge", a, a, target, "--blocks", "1,x")
    assert "a weight of 11" in problem("merge", a, a, target, "--weight", "11")
    assert "exists already" in problem("merge", a, a, a)
    flux = {"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": torch.ones(9, 3), "vae.x": torch.ones(1)}
    save_file(flux, tmp_path / "flux.safetensors")
    assert "choose models of one family" in problem("merge", a, tmp_path / "flux.safetensors", target)
    assert not target.exists()


def test_a_model_with_nan_spoils_no_other(shelf: Path, tmp_path: Path) -> None:
    state, name, target = load_file(shelf / "b.safetensors"), f"{UNET}out.2.bias", tmp_path / "m.safetensors"
    bad = tmp_path / "bad.safetensors"
    save_file({**state, name: state[name] * float("nan")}, bad, dict(read_header(shelf / "b.safetensors").metadata))
    said = f"bad.safetensors: has NaN or infinity in {name}: it is damaged, get it again"
    assert said in problem("merge", shelf / "a.safetensors", bad, target)
    assert "bad.safetensors: has NaN or infinity in unet.conv_out.bias" in problem(
        "extract-lora", shelf / "a.safetensors", bad, target
    )
    assert not target.exists()


def test_values_too_large_for_half_precision_are_not_written(shelf: Path, tmp_path: Path) -> None:
    state = load_file(shelf / "a.safetensors")
    name = f"{UNET}out.2.bias"
    save_file(
        {**state, name: state[name] + 1e5},
        tmp_path / "large.safetensors",
        dict(read_header(shelf / "a.safetensors").metadata),
    )
    said = problem(
        "merge",
        tmp_path / "large.safetensors",
        shelf / "a.safetensors",
        tmp_path / "m.safetensors",
        "--dtype",
        "fp16",
        "--weight",
        "0",
    )
    assert "values too large" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.safetensors"]


def test_prune_leaves_out_what_only_trainings_need(shelf: Path, tmp_path: Path) -> None:
    state = load_file(shelf / "a.safetensors")
    inner = {n.removeprefix(UNET).replace(".", ""): t for n, t in state.items() if n.startswith(UNET)}
    training = {f"model_ema.diffusion_model{name}": t + 1 for name, t in inner.items()}
    training |= {"betas": torch.ones(10), "model_ema.decay": torch.tensor(0.9)}
    torch.save({"state_dict": {**state, **training}, "epoch": 3}, tmp_path / "full.ckpt")
    said = run("prune", tmp_path / "full.ckpt", tmp_path / "small.safetensors", "--dtype", "fp16")
    small = load_file(tmp_path / "small.safetensors")
    assert small.keys() == state.keys()
    assert all(torch.equal(small[name], state[name].half()) for name in state)
    assert f"left out {len(training)} tensors" in said
    run("prune", tmp_path / "full.ckpt", tmp_path / "ema.safetensors", "--ema")
    mean = load_file(tmp_path / "ema.safetensors")
    assert mean.keys() == state.keys()
    assert all(torch.equal(mean[name], state[name] + name.startswith(UNET)) for name in state)


def test_prune_works_for_families_that_cannot_be_generated_with(tmp_path: Path) -> None:
    flux = {"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": torch.ones(9, 3), "vae.x": torch.ones(1)}
    save_file({**flux, "model_ema.decay": torch.ones(1)}, tmp_path / "flux.safetensors")
    run("prune", tmp_path / "flux.safetensors", tmp_path / "small.safetensors")
    assert load_file(tmp_path / "small.safetensors").keys() == flux.keys()
    with pytest.raises(BadFile, match="has no running mean"):
        merging.prune(tmp_path / "flux.safetensors", tmp_path / "x.safetensors", ema=True)


def test_models_that_predict_two_things_are_merged_by_blocks_alone(shelf: Path, tmp_path: Path) -> None:
    marked = load_file(shelf / "b.safetensors") | {"v_pred": torch.empty(0)}
    save_file(marked, tmp_path / "v.safetensors", {"format": "pt"})
    unmarked = {name: tensor for name, tensor in load_file(shelf / "a.safetensors").items() if name != "v_pred"}
    save_file(unmarked, tmp_path / "epsilon.safetensors", {"format": "pt"})
    models = (tmp_path / "epsilon.safetensors", tmp_path / "v.safetensors", tmp_path / "sum.safetensors")
    assert "predicts velocity, and the first model epsilon" in problem("merge", *models)
    assert not models[-1].exists()
    run("merge", *models, "--blocks", "1" + 9 * ",0")
    text = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
    assert torch.equal(load_file(models[-1])[text], marked[text])


def test_families_are_called_as_everywhere(tmp_path: Path) -> None:
    base, refiner = (
        sparse(tmp_path / f"{name}.safetensors", published(name)) for name in ("sdxl_base_sgm", "sdxl_refiner_sgm")
    )
    told = problem("merge", base, refiner, tmp_path / "sum.safetensors")
    assert "is a Stable Diffusion XL refiner model, which cannot be merged into a Stable Diffusion XL model" in told
