"""Adapters made for models that see the latent alone, on models that see more channels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tiny
from atelier.adapters.attach import Strong, attached
from atelier.adapters.read import deltas, matched, open_adapter
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import BadFile
from atelier.families.parts import UNET

WIDTH, RANK = 32, 2
FIRST = "lora_unet_conv_in"


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


UP, DOWN, FULL = drawn(WIDTH, RANK, 1, 1), drawn(RANK, 4, 3, 3), drawn(WIDTH, 4, 3, 3)
ONE, TWO = drawn(WIDTH, RANK), drawn(RANK, 36)
KINDS: dict[str, tuple[dict[str, Tensor], Tensor]] = {
    "LoRA": (
        {"lora_up.weight": UP, "lora_down.weight": DOWN},
        torch.einsum("or,rihw->oihw", UP[:, :, 0, 0], DOWN),
    ),
    "full": ({"diff": FULL}, FULL),
    "LoHa": (
        {"hada_w1_a": ONE, "hada_w1_b": TWO, "hada_w2_a": ONE.clone(), "hada_w2_b": TWO.clone()},
        ((ONE @ TWO) ** 2).reshape(WIDTH, 4, 3, 3),
    ),
    "LoKr": (
        {"lokr_w1": torch.eye(2), "lokr_w2": FULL[:16, :2].clone()},
        torch.stack([torch.cat([FULL[:16, :2] * (a == b) for b in (0, 1)], 1) for a in (0, 1)]).flatten(0, 1),
    ),
}


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return open_checkpoint(tiny.folder(tmp_path_factory.mktemp("nine") / "tiny", in_channels=9))


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_layer_is_changed_in_the_channels_of_the_latent(
    inpainting: Checkpoint, tmp_path: Path, kind: str
) -> None:
    """docs/networks.md; A1111 fills with zeros too."""
    tensors, wanted = KINDS[kind]
    save_file({f"{FIRST}.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "a.safetensors")
    made = deltas(matched(open_adapter(tmp_path / "a.safetensors"), inpainting), "unet")
    ((name, (delta, _)),) = made.items()
    assert name == "conv_in.weight"
    found = delta.difference(torch.zeros(WIDTH, 9, 3, 3))
    torch.testing.assert_close(found[:, :4], wanted)
    assert torch.equal(found[:, 4:], torch.zeros(WIDTH, 5, 3, 3))
    unet, x = inpainting.load(UNET, torch.float32), drawn(1, 9, 8, 8)
    expected = torch.nn.functional.conv2d(x, unet.conv_in.weight + found, unet.conv_in.bias, padding=1)
    for how in ("merge", "hook"):
        with attached(unet, {name: [Strong(delta, 1.0)]}, how), torch.no_grad():
            torch.testing.assert_close(unet.conv_in(x), expected, atol=1e-5, rtol=1e-4)


def test_other_numbers_of_channels_are_refused(inpainting: Checkpoint, tmp_path: Path) -> None:
    save_file({f"{FIRST}.diff": drawn(WIDTH, 5, 3, 3)}, tmp_path / "a.safetensors")
    with pytest.raises(BadFile, match="of another shape than the model's layer, 32x9x3x3"):
        matched(open_adapter(tmp_path / "a.safetensors"), inpainting)
