"""ControlNets of tiny models."""

from __future__ import annotations

from pathlib import Path

import torch

from atelier.adapters.control_lora import ControlLora, LowRank, shapes_of, write_control_lora
from atelier.checkpoints.embedded import embedded_folder
from atelier.checkpoints.opening import open_checkpoint
from atelier.families.parts import UNET
from atelier.models.controlnet import ControlNet, ControlSpec

OWN = ("hint.", "outs.", "out_middle.")


def written(path: Path, model: Path, *, zero: bool) -> None:
    """A ControlNet of the model's own encoder; zero: as it is before it learns."""
    spec = ControlSpec(open_checkpoint(model).spec(UNET), (8, 8, 8))
    torch.manual_seed(3)
    net = ControlNet(spec)
    full = {name: net.get_parameter(name).detach() for name in shapes_of(spec) if name.startswith(OWN)}
    if zero:
        full |= {name: torch.zeros_like(own) for name, own in full.items() if not name.startswith("hint.")}
    name = "middle.attention.blocks.0.attn2.to_k.weight"
    rows, columns = shapes_of(spec)[name]
    low = {name: LowRank(torch.zeros(rows, 1), torch.randn(1, columns))}
    write_control_lora(path, ControlLora(low, full), spec, torch.float32)


def written_for_embedded(path: Path, seed: int) -> None:
    """A ControlNet of the embedded model's encoder that never learned, and steers strongly."""
    spec = ControlSpec(open_checkpoint(embedded_folder()).spec(UNET), (8, 8, 8, 8))
    torch.manual_seed(seed)
    net = ControlNet(spec)
    full = {name: net.get_parameter(name).detach() * 0.5 for name in shapes_of(spec) if name.startswith(OWN)}
    name = "middle.attention.blocks.0.attn2.to_k.weight"
    rows, columns = shapes_of(spec)[name]
    low = {name: LowRank(_drawn(seed, rows, 1), _drawn(seed, 1, columns))}
    write_control_lora(path, ControlLora(low, full), spec)


def _drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * shape[-1] ** -0.5
