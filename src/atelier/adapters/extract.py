"""A LoRA out of two models: the difference of their weights, at a low rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atelier.adapters.delta import ALPHA
from atelier.adapters.describing import of_base
from atelier.adapters.factors import decomposed
from atelier.adapters.layouts import DOWN, UP, Layer, spelled
from atelier.adapters.spelling import Module, modules, parts
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile, BadInput
from atelier.families.family import Family
from atelier.families.part import PartSpec

EMBEDDINGS = "embeddings."
"""In the names of tables of vectors, which no LoRA changes."""
NOTHING = 1e-6
"""Of the weight's own norm: a smaller difference is rounding."""


Pair = tuple[PartSpec[Any, Any], Module, Mapping[str, Tensor], Mapping[str, Tensor]]
"""A layer, its parameters, and what they became."""


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
    found = of_pairs(_pairs(base, tuned), base.family, rank, kernel_rank, whole=whole)
    if not found.tensors:
        raise BadInput(f"{base.path} and {tuned.path} have the same weights in all layers: there is nothing to extract")
    return found


def of_pairs(pairs: Iterable[Pair], family: Family, rank: int, kernel_rank: int, *, whole: bool) -> Extracted:
    """The differences of layers, each beside what became of it, as kohya's scripts name them; see `extract`."""
    layers: list[Layer] = []
    beside: list[str] = []
    kept = total = 0.0
    for part, module, own, other in pairs:
        slots: dict[str, Tensor] = {}
        for parameter, difference in _differences(own, other):
            limit = rank if difference.shape[2:] in ((), (1, 1)) else kernel_rank
            if parameter == "weight" and difference.ndim > 1 and limit and EMBEDDINGS not in module.diffusers[0]:
                up, down, share = _factors(difference, limit)
                slots |= {UP: up, DOWN: down, ALPHA: torch.tensor(float(len(down)))}
                norm = float(difference.square().sum())
                kept, total = kept + share * norm, total + norm
            elif whole and difference.ndim == 1:
                slots[_slot(parameter, own)] = difference
            else:
                beside.append(f"{part.name}.{module.ours}.{parameter}")
        layers += [Layer(part, module, slots)] if slots else []
    low = sum(UP in layer.slots for layer in layers)
    return Extracted(spelled(layers, family, "kohya"), low, kept / total if total else 1.0, tuple(beside))


def metadata(base: Checkpoint, tuned: Checkpoint, rank: int, name: str) -> dict[str, str]:
    """What the file says of itself, under kohya's keys."""
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(rank)),
        **of_base(base.family.name, base.facts.prediction),
        "ss_sd_model_name": base.name,
        "ss_training_comment": f"extracted from {tuned.name}, the difference to {base.name}",
        "ss_output_name": name,
    }


def _pairs(base: Checkpoint, tuned: Checkpoint) -> Iterator[Pair]:
    """Every layer of the text encoders and the denoiser, with its parameters in both models."""
    family = base.family
    if tuned.family.name != family.name:
        raise BadInput(
            f"{base.path} is a {family.title} model and {tuned.path} is {tuned.family.title}: choose two alike"
        )
    for part in (part for part in parts(family) if base.has(part) or tuned.has(part)):
        spec = base.spec(part)
        if spec != tuned.spec(part):
            raise BadInput(f"{base.path} and {tuned.path} have a {part.title} of different sizes: choose two alike")
        one, other = (model.tensors(part, torch.float32) for model in (base, tuned))
        for module in modules(part.network.names(spec)):
            pair = parameters(one, module.ours), parameters(other, module.ours)
            _check_sound(base, pair[0], f"{part.name}.{module.ours}")
            _check_sound(tuned, pair[1], f"{part.name}.{module.ours}")
            yield part, module, *pair


def parameters(tensors: Mapping[str, Tensor], module: str) -> dict[str, Tensor]:
    """The weight and the bias of a layer, as far as it has them."""
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
    found = decomposed(difference.flatten(1))
    up, down = found.cut(rank)
    kernel = difference.shape[2:]
    ones, share = (1,) * len(kernel), found.kept(rank) / found.squares
    return up.reshape(len(up), -1, *ones), down.reshape(len(down), -1, *kernel), share


def _slot(parameter: str, own: Mapping[str, Tensor]) -> str:
    """A norm is known by its weight of one dimension."""
    if own["weight"].ndim == 1:
        return "w_norm" if parameter == "weight" else "b_norm"
    return "diff_b"
