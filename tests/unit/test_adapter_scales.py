"""Scales and single elements that files of adapters say beside their factors, from the file to the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from atelier.adapters.read import deltas, matched, open_adapter
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.cli.app import run
from atelier.errors import BadFile

LAYER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
OURS = "middle.attention.blocks.0.attn1.to_q.weight"
UP, DOWN = 2 * torch.ones(64, 2), torch.ones(2, 64)
LORA = {"lora_up.weight": UP, "lora_down.weight": DOWN}
"""Whose product is 4 everywhere."""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.single_file(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def model(path: Path) -> Checkpoint:
    return open_checkpoint(path)


def saved(place: Path, tensors: Mapping[str, Tensor], layer: str = LAYER) -> Path:
    save_file({f"{layer}.{name}": tensor for name, tensor in tensors.items()}, place)
    return place


def added(file: Path, model: Checkpoint) -> Tensor:
    found = matched(open_adapter(file), model)
    assert found.unmatched == ()
    ((name, (delta, _)),) = deltas(found, "unet").items()
    assert name == OURS
    return delta.difference(torch.ones(64, 64))


def alike(tensor: Tensor, number: float) -> bool:
    return torch.allclose(tensor.float(), torch.full((64, 64), number), atol=1e-3)


def elements(*places: tuple[int, int], shape: tuple[int, ...] = (64, 64)) -> dict[str, Tensor]:
    return {
        "bias_size": torch.tensor(shape, dtype=torch.int16),
        "bias_indices": torch.tensor(places, dtype=torch.int16).reshape(-1, 2).T.contiguous(),
        "bias_values": torch.arange(1.0, 1 + len(places)).half(),
    }


@pytest.mark.parametrize("more", [{}, {"alpha": torch.tensor(8.0)}])
def test_a_scale_counts_in_place_of_alpha(more: dict[str, Tensor], model: Checkpoint, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", {**LORA, "scale": torch.tensor(0.5), **more})
    assert alike(added(file, model), 2.0)


WHOLE = {"lokr_w1": torch.ones(2, 2), "lokr_w2": torch.ones(32, 32)}
LOHA = {f"hada_w{n}_{end}": tensor for n in (1, 2) for end, tensor in (("a", UP.clone()), ("b", DOWN.clone()))}


@pytest.mark.parametrize(
    ("tensors", "wanted"),
    [
        (LORA, 12.0),
        (WHOLE, 3.0),
        (LOHA, 48.0),
        ({"diff": torch.ones(64, 64)}, 3.0),
        ({"weight": torch.ones(64), "on_input": torch.tensor(data=True)}, 3.0),
    ],
)
def test_other_layouts_and_resized_files_keep_it(
    tensors: dict[str, Tensor], wanted: float, model: Checkpoint, tmp_path: Path
) -> None:
    file = saved(tmp_path / "a.safetensors", {**tensors, "scale": torch.tensor(3.0)})
    assert alike(added(file, model), wanted)
    assert run(["models", "convert-lora", str(file), str(tmp_path / "b.safetensors"), "--to", "original"]) == 0
    assert alike(added(tmp_path / "b.safetensors", model), wanted)


def test_a_resized_or_joined_file_does_the_same(path: Path, model: Checkpoint, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", {**LORA, "scale": torch.tensor(0.5)})
    assert run(["models", "resize-lora", str(file), str(tmp_path / "b.safetensors"), "--rank", "1"]) == 0
    assert alike(added(tmp_path / "b.safetensors", model), 2.0)
    assert run(["models", "merge-lora", f"{file}:3", str(file), str(tmp_path / "c.safetensors")]) == 0
    assert alike(added(tmp_path / "c.safetensors", model), 8.0)
    full = saved(tmp_path / "full.safetensors", {"diff": torch.ones(64, 64), "scale": torch.tensor(0.5)})
    told = ["models", "merge-lora", str(full), str(full), str(tmp_path / "d.safetensors")]
    assert run(told) == 2
    assert run([*told, "--base", str(path), "--rank", "1"]) == 0
    assert alike(added(tmp_path / "d.safetensors", model), 1.0)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1, 1)])
def test_single_elements_are_added_where_they_stand(shape: tuple[int, ...], model: Checkpoint, tmp_path: Path) -> None:
    own = elements((0, 3), (63, 0), shape=shape)
    if len(shape) > 2:
        own["bias_indices"] = torch.cat([own["bias_indices"], torch.zeros(2, 2, dtype=torch.int16)])
    file = saved(tmp_path / "a.safetensors", {**LORA, "alpha": torch.tensor(2.0), **own})
    wanted = torch.full((64, 64), 4.0)
    wanted[0, 3], wanted[63, 0] = 5.0, 6.0
    assert torch.equal(added(file, model), wanted)
    none = saved(tmp_path / "none.safetensors", {**LORA, **elements()})
    assert alike(added(none, model), 4.0)


def test_tools_keep_single_elements_or_refuse_them(
    path: Path, model: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = elements((0, 3))
    file = saved(tmp_path / "a.safetensors", {**LORA, "alpha": torch.tensor(2.0), **own})
    wanted = added(file, model)
    for name, words in {"b": ("convert-lora", "--to", "original"), "c": ("resize-lora", "--rank", "1")}.items():
        target = tmp_path / f"{name}.safetensors"
        assert run(["models", words[0], str(file), str(target), *words[1:]]) == 0
        torch.testing.assert_close(added(target, model), wanted)
        (places,) = (tensor for key, tensor in load_file(target).items() if key.endswith(".bias_indices"))
        assert torch.equal(places, own["bias_indices"])
    assert run(["models", "convert-lora", str(file), str(tmp_path / "d.safetensors"), "--to", "peft"]) == 2
    assert run(["models", "merge-lora", str(file), str(file), str(tmp_path / "e.safetensors")]) == 2
    assert "bias_" in capsys.readouterr().err


@pytest.mark.parametrize(
    "own",
    [
        elements((0, 64)),
        elements((-1, 0)),
        elements((0, 3), shape=(64, 63)),
        {**elements((0, 3)), "bias_values": torch.ones(2)},
        {**elements((0, 3)), "bias_size": torch.tensor([64, 64, 1])},
        {**elements((0, 3)), "bias_values": torch.tensor([1])},
    ],
)
def test_elements_that_no_weight_has_are_refused(own: dict[str, Tensor], model: Checkpoint, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.safetensors", {**LORA, **own})
    with pytest.raises(BadFile) as caught:
        added(file, model)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
