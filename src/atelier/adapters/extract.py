"""A LoRA out of two models: the difference of their weights, at a low rank.

The best approximation of a matrix at rank r is the first r terms of its singular value decomposition (Eckart and Young
1936).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from atelier.adapters.spelling import Module, flat_name, modules
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile, BadInput
from atelier.families.part import PartSpec

BASE_VERSIONS: Mapping[str, str] = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0", "sd3": "sd3_m"}
"""What kohya's scripts call the families."""
EMBEDDINGS = "embeddings."
"""In the names of tables of vectors, which no LoRA changes."""
NOTHING = 1e-6
"""Of the weight's own norm: a smaller difference is rounding."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """tensors: of the file. layers: how many it has. kept: the share of the squared differences of these layers that
    is in it, 0 to 1. beside: parameters that differ and are not in it: biases, norms, tables."""

    tensors: Mapping[str, Tensor]
    layers: int
    kept: float
    beside: tuple[str, ...]


def extract(base: Checkpoint, tuned: Checkpoint, rank: int, kernel_rank: int, *, whole: bool = False) -> Extracted:
    """What `tuned` has learned beyond `base`, as kohya's scripts name it, float32.

    kernel_rank: of convolutions that are larger than a point, 0: they are left out. whole: differences of biases and
    norms are kept as they are, which few other programs read. Raises BadInput for two models of different sizes, and
    for two that are the same.
    """
    tensors: dict[str, Tensor] = {}
    beside: list[str] = []
    layers, kept, total = 0, 0.0, 0.0
    for part, module, own, other in _pairs(base, tuned):
        name = flat_name(module, part, base)
        for checkpoint, parameters in ((base, own), (tuned, other)):
            _check_sound(checkpoint, parameters, f"{part.name}.{module.ours}")
        for parameter, difference in _differences(own, other):
            limit = rank if difference.shape[2:] in ((), (1, 1)) else kernel_rank
            if parameter == "weight" and difference.ndim > 1 and limit and EMBEDDINGS not in module.diffusers[0]:
                up, down, share = _factors(difference, limit)
                tensors |= {
                    f"{name}.lora_up.weight": up,
                    f"{name}.lora_down.weight": down,
                    f"{name}.alpha": torch.tensor(float(len(down))),
                }
                norm = float(difference.square().sum())
                layers, kept, total = layers + 1, kept + share * norm, total + norm
            elif whole and difference.ndim == 1:
                tensors[f"{name}.{_slot(parameter, own)}"] = difference
            else:
                beside.append(f"{part.name}.{module.ours}.{parameter}")
    if not tensors:
        raise BadInput(f"{base.path} and {tuned.path} have the same weights in all layers: there is nothing to extract")
    return Extracted(tensors, layers, kept / total if total else 1.0, tuple(beside))


def metadata(base: Checkpoint, tuned: Checkpoint, rank: int, name: str) -> dict[str, str]:
    """What the file says of itself, under kohya's keys."""
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(rank)),
        "ss_base_model_version": BASE_VERSIONS.get(base.family.name, base.family.name),
        "ss_v2": str(base.family.name == "sd2"),
        "ss_sd_model_name": base.name,
        "ss_training_comment": f"extracted from {tuned.name}, the difference to {base.name}",
        "ss_output_name": name,
    }


_Layer = tuple[PartSpec[Any, Any], Module, Mapping[str, Tensor], Mapping[str, Tensor]]


def _pairs(base: Checkpoint, tuned: Checkpoint) -> Iterator[_Layer]:
    """Every layer of the text encoders and the denoiser, with its parameters in both models."""
    family = base.family
    if tuned.family.name != family.name:
        raise BadInput(
            f"{base.path} is a {family.title} model and {tuned.path} is {tuned.family.title}: choose two alike"
        )
    denoiser = family.part(family.denoiser)
    assert denoiser is not None
    for part in (*(tower.part for tower in family.towers), denoiser):
        spec = base.spec(part)
        if spec != tuned.spec(part):
            raise BadInput(f"{base.path} and {tuned.path} have a {part.title} of different sizes: choose two alike")
        one, other = (model.tensors(part, torch.float32) for model in (base, tuned))
        for module in modules(part.network.names(spec)):
            yield part, module, _parameters(one, module.ours), _parameters(other, module.ours)


def _parameters(tensors: Mapping[str, Tensor], module: str) -> dict[str, Tensor]:
    names = (f"{module}.{parameter}" for parameter in ("weight", "bias"))
    return {name.rpartition(".")[2]: tensors[name] for name in names if name in tensors}


def _check_sound(checkpoint: Checkpoint, parameters: Mapping[str, Tensor], module: str) -> None:
    """Raises BadFile for numbers that have no difference."""
    for parameter, tensor in parameters.items():
        if not bool(tensor.isfinite().all()):
            raise BadFile(checkpoint.path, f"has NaN or infinity in {module}.{parameter}: it is damaged, get it again")


def _differences(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for parameter, tensor in own.items():
        difference = other[parameter] - tensor
        if float(difference.square().sum().sqrt()) > NOTHING * float(tensor.square().sum().sqrt()):
            yield parameter, difference


def _factors(difference: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """(up, down, the share of the squared difference that is in their product), shaped as kohya's scripts do."""
    flat = difference.flatten(1)
    left, values, right = cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(flat, full_matrices=False))
    rank = min(rank, len(values))
    roots = values[:rank].sqrt()
    up, down = left[:, :rank] * roots, roots[:, None] * right[:rank]
    share = float(values[:rank].square().sum() / values.square().sum())
    kernel = difference.shape[2:]
    ones = (1,) * len(kernel)
    return up.reshape(-1, rank, *ones).contiguous(), down.reshape(rank, -1, *kernel).contiguous(), share


def _slot(parameter: str, own: Mapping[str, Tensor]) -> str:
    """A norm is known by its weight of one dimension."""
    if own["weight"].ndim == 1:
        return "w_norm" if parameter == "weight" else "b_norm"
    return "diff_b"
