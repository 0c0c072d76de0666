"""What PEFT saves, an adapter beside its settings, changes weights as PEFT itself says; every number to 1e-5."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
import tiny_sd
from atelier.adapters.read import Match, deltas, matched, open_adapter
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.checkpoints.write import write_diffusers
from atelier.cli.app import run
from atelier.errors import BadFile

diffusers = pytest.importorskip("diffusers", reason="the reference extra is not installed")
transformers = pytest.importorskip("transformers", reason="the reference extra is not installed")
peft = pytest.importorskip("peft", reason="the reference extra is not installed")

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:The following alpha_pattern keys"),  # PEFT's, of a pattern that is to match none
    pytest.mark.filterwarnings("ignore:Adapter 'default'.*invalid shape"),  # PEFT's, of biases and of ranks taken away
]
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1"]
WITH_BIAS = ["to_out.0", "proj_in", "conv1"]
TO_Q, TO_K = "attn1.to_q", "attn2.to_k"
Make = Callable[..., Any]
PATTERNS = {
    "^conv1": 50,
    "to_q": 5,
    r"^down_blocks\.0\.attentions\.0\.proj_in$": 2.5,
    "mid_block.resnets.1.conv1": 7,
    "attn2.to_k": 1,
}


def adaptive(alpha: int) -> Any:
    return peft.AdaLoraConfig(init_r=4, target_r=2, lora_alpha=alpha, total_step=9, target_modules=LAYERS)


CONFIGS: Mapping[str, Callable[[], Any]] = {
    "alpha": lambda: peft.LoraConfig(r=4, lora_alpha=6, target_modules=LAYERS),
    "defaults": lambda: peft.LoraConfig(r=4, target_modules=LAYERS),
    "patterns": lambda: peft.LoraConfig(r=4, lora_alpha=6, alpha_pattern=PATTERNS, target_modules=LAYERS),
    "ranks": lambda: peft.LoraConfig(r=4, lora_alpha=6, rank_pattern={"to_q": 3, "conv1": 6}, target_modules=LAYERS),
    "roots": lambda: peft.LoraConfig(
        r=4, lora_alpha=6, use_rslora=True, rank_pattern={"to_q": 2}, alpha_pattern={"to_k": 9}, target_modules=LAYERS
    ),
    "lengths": lambda: peft.LoraConfig(r=4, lora_alpha=6, use_dora=True, target_modules=LAYERS),
    "loha": lambda: peft.LoHaConfig(r=4, alpha=6, alpha_pattern={"to_q": 3}, target_modules=LAYERS),
    "lokr": lambda: peft.LoKrConfig(r=4, alpha=6, alpha_pattern={"to_q": 3}, target_modules=LAYERS),
    "biases of factors": lambda: peft.LoraConfig(r=4, lora_alpha=6, lora_bias=True, target_modules=WITH_BIAS),
    "adaptive": lambda: adaptive(6),
    "adaptive, without an alpha": lambda: adaptive(-1),
    "whole lokr": lambda: peft.LoKrConfig(r=64, alpha=16, rank_pattern={"to_q": 128}, target_modules=LAYERS),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def ours(model: Path) -> Checkpoint:
    return open_checkpoint(model)


def taught(net: Any, config: Any) -> Any:
    """The network with an adapter in which no number is zero."""
    made = peft.get_peft_model(net, config)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if any(
                mark in name for mark in ("lora_A", "lora_B", "lora_E", "hada", "lokr", "embedding_", "ia3_l", "oft_R")
            ):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
            elif "modules_to_save" in name or (parameter.requires_grad and name.endswith("bias")):
                parameter.add_(0.1)
            elif "magnitude" in name:
                parameter.mul_(1.1)
    return made


@torch.no_grad()
def changed(made: Any) -> dict[str, Tensor]:
    """What PEFT adds to the weights when it merges, by the names of the plain network."""
    ends = ("base_layer.weight", "base_layer.bias")
    before = {name: tensor.clone() for name, tensor in made.state_dict().items() if name.endswith(ends)}
    made.merge_adapter()
    after = made.state_dict()
    added = {name: after[name] - tensor for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    made.unmerge_adapter()
    cut = {name: name.removeprefix("base_model.model.").replace(".base_layer", "") for name in added}
    return {cut[name]: tensor for name, tensor in added.items()}


@torch.no_grad()
def added(found: Match, model: Checkpoint, part_name: str) -> dict[str, Tensor]:
    """What is added here, by the same names."""
    (part,) = (own for own in model.family.parts if own.name == part_name)
    names = {name.ours: name.diffusers for name in part.network.names(model.spec(part))}
    weights = model.tensors(part, torch.float32)
    made = {n: delta.difference(weights[n]) for n, (delta, _) in deltas(found, part_name).items()}
    return {names[name]: tensor for name, tensor in made.items()}


def same(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    assert len(mine) > 5
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name].reshape(tensor.shape), tensor, rtol=1e-5, atol=1e-5, msg=name)
        assert float(tensor.abs().max()) > 1e-3, name


def unet_of(model: Path) -> Any:
    return diffusers.UNet2DConditionModel.from_pretrained(model / "unet")


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_beside_the_file_count(name: str, model: Path, ours: Checkpoint, tmp_path: Path) -> None:
    made = taught(unet_of(model), CONFIGS[name]())
    made.save_pretrained(tmp_path / "mine")
    found = matched(open_adapter(tmp_path / "mine" / "adapter_model.safetensors"), ours)
    assert found.unmatched == ()
    same(added(found, ours, "unet"), changed(made))


def test_ranks_that_adalora_took_away_are_not_there(model: Path, ours: Checkpoint, tmp_path: Path) -> None:
    """Of one layer half of them, of another all."""
    made = taught(unet_of(model), CONFIGS["adaptive"]())
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1"
    pattern = {f"{layer}.to_q.lora_E": [True, False, True, False], f"{layer}.to_k.lora_E": [False] * 4}
    with torch.no_grad():
        for name, kept in pattern.items():
            made.get_parameter(f"base_model.model.{name}.default").mul_(torch.tensor(kept).float()[:, None])
    made.peft_config["default"].rank_pattern = pattern
    made.save_pretrained(tmp_path)
    found = matched(open_adapter(tmp_path / "adapter_model.safetensors"), ours)
    assert found.unmatched == ()
    theirs = changed(made)
    assert f"{layer}.to_q.weight" in theirs
    assert f"{layer}.to_k.weight" not in theirs
    same(added(found, ours, "unet"), theirs)


INNER = ["to_k", "to_out.0", "ff.net.2", "conv1", "conv2", "proj_in"]
POINTS = ["to_q", "to_out.0", "proj_in", "ff.net.2"]
NEW: Mapping[str, Callable[[], Any]] = {
    "ia3": lambda: peft.IA3Config(target_modules=INNER, feedforward_modules=["ff.net.2", "conv1"]),
    "oft": lambda: peft.OFTConfig(r=0, oft_block_size=8, target_modules=POINTS),
    "oft of two terms": lambda: oft(num_cayley_neumann_terms=2),
    "oft of three terms": lambda: oft(num_cayley_neumann_terms=3),
    "oft of seven terms": lambda: oft(num_cayley_neumann_terms=7),
    "exact oft": lambda: oft(use_cayley_neumann=False),
    "limited oft": lambda: oft(coft=True, eps=0.5),
    "oft of one block": lambda: oft(block_share=True),
    "biases of its layers": lambda: peft.LoraConfig(r=4, bias="lora_only", target_modules=WITH_BIAS),
    "all biases": lambda: peft.LoraConfig(r=4, bias="all", target_modules=WITH_BIAS),
    "whole modules": lambda: peft.LoraConfig(
        r=4, target_modules=["to_q"], modules_to_save=["conv_in", "time_embedding", "norm_out", "conv_norm_out"]
    ),
}
"""What changes more than the weights of its layers, or has no rank."""


def oft(**settings: Any) -> Any:
    return peft.OFTConfig(r=0, oft_block_size=8, target_modules=POINTS, **settings)


@torch.no_grad()
def beyond(made: Any, plain: Any) -> dict[str, Tensor]:
    """What is other than in the plain network once PEFT has merged."""
    made.merge_adapter()
    after = {
        name.removeprefix("base_model.model.")
        .replace(".base_layer", "")
        .replace(".modules_to_save.default", ""): tensor
        for name, tensor in made.state_dict().items()
    }
    return {name: after[name] - own for name, own in plain.state_dict().items() if not torch.equal(after[name], own)}


@pytest.mark.parametrize("name", NEW)
def test_kinds_of_peft_alone_are_what_it_merges(name: str, model: Path, ours: Checkpoint, tmp_path: Path) -> None:
    made = taught(unet_of(model), NEW[name]())
    made.save_pretrained(tmp_path)
    found = matched(open_adapter(tmp_path / "adapter_model.safetensors"), ours)
    assert found.unmatched == ()
    same(added(found, ours, "unet"), beyond(made, unet_of(model)))


def test_embeddings_of_tokens_learn_too(model: Path, ours: Checkpoint, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, lora_alpha=5, target_modules=[*TEXT_LAYERS, "token_embedding"])
    made = taught(transformers.CLIPTextModel.from_pretrained(model / "text_encoder"), config)
    made.save_pretrained(tmp_path)
    found = matched(open_adapter(tmp_path / "adapter_model.safetensors"), ours)
    assert found.unmatched == ()
    mine = added(found, ours, "text")
    assert "text_model.embeddings.token_embedding.weight" in mine
    same(mine, _renamed(changed(made)))


@pytest.mark.parametrize("name", ["ia3", "exact oft", "whole modules", "all biases"])
def test_no_other_layout_holds_what_peft_alone_keeps(
    name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taught(unet_of(model), NEW[name]()).save_pretrained(tmp_path)
    words = [str(tmp_path / "adapter_model.safetensors"), str(tmp_path / "other.safetensors"), "--to", "kohya"]
    assert run(["models", "convert-lora", *words, "--base", str(model)]) == 2
    assert "as PEFT alone keeps it" in capsys.readouterr().err


def test_weights_beside_settings_of_none_are_no_adapter(ours: Checkpoint, tmp_path: Path) -> None:
    """A part of a model is not taken for what has been trained in it."""
    path = saved(tmp_path, json.dumps({"peft_type": "LORA", "modules_to_save": None, "bias": "none"}))
    save_file({"base_model.model.conv_in.weight": torch.ones(32, 4, 3, 3), "conv_in.bias": torch.ones(32)}, path)
    with pytest.raises(BadFile, match="is no LoRA or other weight adapter"):
        open_adapter(path)


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 8 / (12 + 1e-5)),
        ({"init_r": 4, "lora_alpha": 6, "rank_pattern": {"x.lora_E": [True]}}, 6 / (4 + 1e-5)),
        ({"init_r": 4, "lora_alpha": 0}, 4 / (4 + 1e-5)),
    ],
)
def test_adalora_divides_by_the_rank_that_it_began_with(
    settings: Mapping[str, object], scale: float, tmp_path: Path
) -> None:
    path = saved(tmp_path, json.dumps({"peft_type": "ADALORA", **settings}))
    assert open_adapter(path).stated.scale("base_model.model.x", 1) == scale


@pytest.mark.parametrize(
    ("settings", "numbers"),
    [
        ({}, {"terms": 5, "limit": 0}),
        ({"coft": True, "num_cayley_neumann_terms": 1000}, {"terms": 64, "limit": 6e-5}),
        ({"use_cayley_neumann": False, "eps": 0.5}, {"terms": 0, "limit": 0}),
    ],
)
def test_what_the_settings_say_of_a_rotation(
    settings: Mapping[str, object], numbers: Mapping[str, float], tmp_path: Path
) -> None:
    path = saved(tmp_path, json.dumps({"peft_type": "OFT", **settings}))
    assert open_adapter(path).stated.numbers("base_model.model.x") == numbers


def test_a_pickled_one_has_them_too(model: Path, ours: Checkpoint, tmp_path: Path) -> None:
    made = taught(unet_of(model), CONFIGS["alpha"]())
    made.save_pretrained(tmp_path, safe_serialization=False)
    assert not (tmp_path / "adapter_model.safetensors").exists()
    same(added(matched(open_adapter(tmp_path / "adapter_model.bin"), ours), ours, "unet"), changed(made))


@pytest.mark.parametrize("name", ["patterns", "ranks", "roots", "lengths"])
def test_settings_in_the_header_count(name: str, model: Path, ours: Checkpoint, tmp_path: Path) -> None:
    made = taught(unet_of(model), CONFIGS[name]())
    told = made.peft_config["default"].to_dict()
    layers = peft.get_peft_model_state_dict(made)
    layers = {name.removeprefix("base_model.model."): tensor for name, tensor in layers.items()}
    diffusers.StableDiffusionPipeline.save_lora_weights(tmp_path, layers, unet_lora_adapter_metadata=told)
    found = matched(open_adapter(tmp_path / "pytorch_lora_weights.safetensors"), ours)
    assert found.unmatched == ()
    same(added(found, ours, "unet"), changed(made))


def test_settings_of_one_network_alone_count(model: Path, ours: Checkpoint, tmp_path: Path) -> None:
    """As the network itself saves them: nothing stands before its names."""
    made = taught(unet_of(model), CONFIGS["roots"]())
    unet = unet_of(model)
    unet.add_adapter(CONFIGS["roots"]())
    peft.set_peft_model_state_dict(unet, _bare(made))
    unet.save_lora_adapter(tmp_path)
    found = matched(open_adapter(tmp_path / "pytorch_lora_weights.safetensors"), ours)
    same(added(found, ours, "unet"), changed(made))


def _bare(made: Any) -> dict[str, Tensor]:
    state = peft.get_peft_model_state_dict(made)
    return {name.removeprefix("base_model.model."): tensor for name, tensor in state.items()}


TEXT_LAYERS = ["q_proj", "v_proj", "fc1"]


def test_a_text_encoder_has_its_own(model: Path, ours: Checkpoint, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, lora_alpha=5, alpha_pattern={"fc1": 3}, target_modules=TEXT_LAYERS)
    made = taught(transformers.CLIPTextModel.from_pretrained(model / "text_encoder"), config)
    made.save_pretrained(tmp_path)
    found = matched(open_adapter(tmp_path / "adapter_model.safetensors"), ours)
    assert found.unmatched == ()
    same(added(found, ours, "text"), _renamed(changed(made)))


@pytest.mark.parametrize("folder", ["text_encoder", "text_encoder_2"])
def test_the_folder_tells_which_text_encoder_is_meant(folder: str, tmp_path: Path) -> None:
    write_diffusers(tiny_sd.sdxl(), tmp_path / "xl")
    ours = open_checkpoint(tmp_path / "xl")
    config = peft.LoraConfig(r=2, lora_alpha=5, target_modules=TEXT_LAYERS)
    made = taught(transformers.CLIPTextModelWithProjection.from_pretrained(tmp_path / "xl" / folder), config)
    made.save_pretrained(tmp_path / "mine" / folder)
    found = matched(open_adapter(tmp_path / "mine" / folder / "adapter_model.safetensors"), ours)
    assert found.unmatched == ()
    part = ours.family.towers[folder == "text_encoder_2"].part.name
    same(added(found, ours, part), _renamed(changed(made)))


def _renamed(states: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Recent transformers leave a level out."""
    return {n if n.startswith("text_model.") else f"text_model.{n}": tensor for n, tensor in states.items()}


def saved(folder: Path, settings: str, name: str = "adapter_model") -> Path:
    layer = "base_model.model.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors = {f"{layer}.lora_A.weight": torch.ones(2, 64), f"{layer}.lora_B.weight": torch.ones(64, 2)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / f"{name}.safetensors")
    (folder / "adapter_config.json").write_text(settings)
    return folder / f"{name}.safetensors"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("{", "not valid JSON"),
        ('{"peft_type": "LORA", "lora_alpha": "6"}', 'says lora_alpha is "6"; a number'),
        ('{"peft_type": "LORA", "alpha_pattern": {"(a+)+": 6}}', "(a+)+"),
        ('{"peft_type": "LORA", "alpha_pattern": {"to_q": true}}', "to_q is true; a number"),
        ('{"peft_type": "LORA", "alpha_pattern": 6}', "alpha_pattern is 6"),
        ('{"peft_type": "IA3", "feedforward_modules": ".*ff"}', 'feedforward_modules is ".*ff"'),
        ('{"peft_type": "OFT", "num_cayley_neumann_terms": 0}', "num_cayley_neumann_terms"),
        ('{"peft_type": "LORA", "use_rslora": 1}', "use_rslora is 1; true or false"),
    ],
)
def test_settings_that_cannot_be_read_are_told(settings: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BadFile) as caught:
        open_adapter(saved(tmp_path, settings))
    assert "adapter_config.json" in str(caught.value)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_those_of_the_file_that_peft_calls_so(ours: Checkpoint, tmp_path: Path) -> None:
    """The tensors tell the rank, whatever the settings say of it."""
    settings = json.dumps({"peft_type": "LORA", "r": 64, "lora_alpha": 6})
    for name, scale in (("adapter_model", 3.0), ("another", 1.0)):
        found = matched(open_adapter(saved(tmp_path, settings, name)), ours)
        (tensor,) = added(found, ours, "unet").values()
        torch.testing.assert_close(tensor, torch.full((64, 64), 2 * scale))


def test_an_alpha_in_the_file_is_believed_first(ours: Checkpoint, tmp_path: Path) -> None:
    path = saved(tmp_path, json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 6}))
    tensors = load_file(path)
    save_file({**tensors, f"{next(iter(tensors)).partition('.lora_')[0]}.alpha": torch.tensor(1.0)}, path)
    (tensor,) = added(matched(open_adapter(path), ours), ours, "unet").values()
    torch.testing.assert_close(tensor, torch.full((64, 64), 1.0))


def test_a_smaller_one_keeps_the_bias_of_a_factor(model: Path, ours: Checkpoint, tmp_path: Path) -> None:
    made = taught(unet_of(model), CONFIGS["biases of factors"]())
    made.save_pretrained(tmp_path)
    path, small = tmp_path / "adapter_model.safetensors", tmp_path / "small.safetensors"
    assert run(["models", "resize-lora", str(path), str(small), "--rank", "4"]) == 0
    found = matched(open_adapter(small), ours)
    assert found.unmatched == ()
    same(added(found, ours, "unet"), changed(made))


def test_a_bias_that_the_model_does_not_have_is_refused(ours: Checkpoint, tmp_path: Path) -> None:
    path = saved(tmp_path, "{}")
    tensors = load_file(path)
    save_file({**tensors, f"{next(iter(tensors)).partition('.lora_')[0]}.lora_B.bias": torch.ones(64)}, path)
    with pytest.raises(BadFile, match=r"changes a bias of .*to_q that the model does not have"):
        matched(open_adapter(path), ours)


def test_nothing_is_written_that_settings_of_another_would_count_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "ink", json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 6}))
    before = path.read_bytes()
    for words in (["resize-lora", "--rank", "1"], ["convert-lora", "--to", "peft"]):
        assert run(["models", words[0], str(tmp_path / "ink"), str(path), *words[1:], "--overwrite"]) == 2
        assert "adapter_config.json" in capsys.readouterr().err
    assert run(["models", "merge-lora", str(path), str(path), str(path), "--overwrite"]) == 2
    assert path.read_bytes() == before
    assert run(["models", "resize-lora", str(path), str(tmp_path / "ink" / "one.safetensors"), "--rank", "1"]) == 0
