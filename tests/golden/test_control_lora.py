"""Control-LoRAs: what a file adds to a model's encoder, restated by hand; and the files that are written here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import hint_support as support
from atelier.adapters.control_lora import ControlLora, LowRank, shapes_of, write_control_lora
from atelier.adapters.hints import encoder_tensors
from atelier.adapters.steering import Acting, open_steering
from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.kind import identify
from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import BadFile
from atelier.families.parts import UNET
from atelier.models.controlnet import ControlSpec
from atelier.nn.ports import NOTHING
from atelier.weights.archive import open_any
from hint_support import Both, control_of, drawn, hint, residuals
from weights_support import assert_close, weight_of

pytest.importorskip("diffusers", reason="the reference extra is not installed")

X, T, RANK = drawn(2, 4, 8, 12), torch.tensor([7.0, 901.0]), 3
WHOLE = ("hint.", "outs.", "out_middle.")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Both]:
    folder = tmp_path_factory.mktemp("models")
    return {name: support.both(folder, name) for name in ("sd1", "sdxl")}


def made(spec: ControlSpec, rank: int = RANK) -> ControlLora:
    """Low-rank changes of all weights of the encoder, all else whole."""
    low: dict[str, LowRank] = {}
    full: dict[str, Tensor] = {}
    for name, shape in shapes_of(spec).items():
        if len(shape) > 1 and not name.startswith(WHOLE):
            up = torch.Size((shape[0], rank, *(1,) * (len(shape) - 2)))
            down = torch.Size((rank, *shape[1:]))
            low[name] = LowRank(0.3 * weight_of(f"{name}.up", up), weight_of(f"{name}.down", down))
        else:
            full[name] = weight_of(name, shape)
    return ControlLora(low, full)


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_it_is_the_encoder_with_its_products(name: str, models: dict[str, Both], tmp_path: Path) -> None:
    """diffusers' ControlNet with weights that are put together here, one number after the other."""
    both = models[name]
    spec = ControlSpec(both.ours.spec)
    write_control_lora(tmp_path / "lora.safetensors", made(spec), spec, torch.float32)
    theirs = control_of(both.theirs)
    theirs.load_state_dict(restated(load_file(tmp_path / "lora.safetensors"), both))
    net = open_steering(tmp_path / "lora.safetensors", both.model, torch.float32)
    shown = hint(2)
    down, middle = theirs(
        X, T, both.cond.tokens, controlnet_cond=shown, added_cond_kwargs=both.added, return_dict=False
    )
    found = residuals(net.ports(net.read(shown), X, T, both.cond, Acting()))
    for ours, there in zip(found, (*down, middle), strict=True):
        assert_close(ours, there)
    assert net.ports(net.read(shown), X, T, both.cond, Acting(weight=0)) is NOTHING


def restated(file: dict[str, Tensor], both: Both) -> dict[str, Tensor]:
    """A file in Stability AI's names, in diffusers', by the literal places of blocks in these tiny networks."""
    own = both.theirs.state_dict()
    made: dict[str, Tensor] = {}
    for name, tensor in file.items():
        if name == "lora_controlnet":
            continue
        stem, kind = name.rsplit(".", 1)
        there = renamed(stem)
        if kind == "down":
            up = file[f"{stem}.up"]
            product = torch.einsum("or,r...->o...", up.reshape(up.shape[:2]), tensor)
            made[f"{there}.weight"] = own[f"{there}.weight"] + product.reshape(own[f"{there}.weight"].shape)
        elif kind != "up":
            made[f"{there}.{kind}"] = tensor
    return made


BLOCKS = {
    "input_blocks.0.0": "conv_in",
    "input_blocks.1.0": "down_blocks.0.resnets.0",
    "input_blocks.1.1": "down_blocks.0.attentions.0",
    "input_blocks.2.0.op": "down_blocks.0.downsamplers.0.conv",
    "input_blocks.3.0": "down_blocks.1.resnets.0",
    "input_blocks.3.1": "down_blocks.1.attentions.0",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "middle_block_out.0": "controlnet_mid_block",
    "input_hint_block.0": "controlnet_cond_embedding.conv_in",
    "input_hint_block.14": "controlnet_cond_embedding.conv_out",
    **{f"input_hint_block.{2 * n + 2}": f"controlnet_cond_embedding.blocks.{n}" for n in range(6)},
    **{f"zero_convs.{n}.0": f"controlnet_down_blocks.{n}" for n in range(4)},
}
LAYERS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def renamed(stem: str) -> str:
    block = max((b for b in BLOCKS if stem == b or stem.startswith(f"{b}.")), key=len)
    inner = stem[len(block) + 1 :]
    return ".".join(part for part in (BLOCKS[block], LAYERS.get(inner, inner)) if part)


def test_what_a_file_leaves_out_is_the_models_own(models: dict[str, Both], tmp_path: Path) -> None:
    both = models["sd1"]
    spec = ControlSpec(both.ours.spec)
    lora, bias = made(spec), "down.1.resnets.0.conv1.bias"
    base = encoder_tensors(both.model, 4)
    rest = {name: tensor for name, tensor in lora.full.items() if name != bias}
    assert torch.equal(ControlLora(lora.low, rest).weights(base)[bias], base[bias])
    write_control_lora(tmp_path / "lora.safetensors", ControlLora(lora.low, rest), spec, torch.float32)
    net = open_steering(tmp_path / "lora.safetensors", both.model, torch.float32)
    other = "down.1.resnets.0.conv2.bias"
    assert torch.equal(net.nets[0].get_parameter(bias), base[bias])
    assert not torch.equal(net.nets[0].get_parameter(other), base[other])


def test_one_for_the_embedded_model_is_small_and_known(tmp_path: Path) -> None:
    """At rank 8 in half precision: well under six megabytes."""
    model = open_checkpoint(embedded_folder())
    spec, path = ControlSpec(model.spec(UNET)), tmp_path / "lora.safetensors"
    write_control_lora(path, made(spec, rank=8), spec)
    assert path.stat().st_size < 3e6
    identity = identify(open_any(path))
    assert identity is not None
    assert (identity.kind, identity.family, identity.variant) == ("control_lora", None, "rank_8")
    net = open_steering(path, model, torch.float32)
    unet, cond = model.load(UNET, torch.float32), support.Conditioning(drawn(1, 5, 160, seed=1))
    x, t = drawn(1, 16, 8, 8), torch.tensor([500.0])
    ports = net.ports(net.read(hint(1, 64, 64)), x, t, cond, Acting())
    assert len(ports.residuals) == 7
    with torch.no_grad():
        assert not torch.allclose(unet(x, t, cond, ports), unet(x, t, cond), atol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"middle_block.0.extra.up": torch.zeros(4, 2)}, "has 1 tensor .*extra.up.* that no layer of this model takes"),
        (
            {"time_embed.0.up": torch.zeros(64, 3)},
            "is for another model: it has .64, 3. and .3, 32. for time",
        ),
        ({"zero_convs.0.0.weight": None}, "lacks 1 tensor .outs.0.weight"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: dict[str, Tensor | None], message: str, models: dict[str, Both], tmp_path: Path
) -> None:
    both, path = models["sd1"], tmp_path / "lora.safetensors"
    write_control_lora(path, made(ControlSpec(both.ours.spec)), ControlSpec(both.ours.spec), torch.float32)
    tensors = {name: tensor for name, tensor in {**load_file(path), **change}.items() if tensor is not None}
    save_file(tensors, path)
    with pytest.raises(BadFile, match=message):
        open_steering(path, both.model, torch.float32)
