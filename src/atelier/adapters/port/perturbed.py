"""The identity in place of attention maps, for perturbed-attention guidance."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import Tensor

from atelier.errors import BadInput
from atelier.nn.attention import merge_heads
from atelier.nn.ports import AttentionLayer, Ports

MIDDLE = "middle"
"""What the authors perturb."""
ELSEWHERE = (
    (re.compile(r"^mid(_block)?(?=$|\.)"), MIDDLE),
    (re.compile(r"^(down|up)_blocks(?=\.)"), r"\1"),
)
"""What diffusers calls layers, and what they are called here: mid, down_blocks.2, up_blocks.1.attentions.0."""


def perturbed(paths: Sequence[str]) -> Ports:
    """Every position that these self-attentions read attends to itself alone (Ahn et al. 2024, arXiv:2403.17377,
    equation 13)."""
    return Ports(attention=dict.fromkeys(paths, _itself))


def chosen(paths: Sequence[str], layers: str) -> tuple[str, ...]:
    """Of the paths of a network's self-attentions those that `layers` names, whole or by their beginnings: "middle",
    "down.2", "up.1.attentions.0", several with commas. Raises BadInput for a name that is none."""
    found: dict[str, None] = {}
    for name in map(_named, layers.split(",")):
        own = [path for path in paths if path.startswith(f"{name}.")]
        if not own:
            known = ", ".join(dict.fromkeys(_level(path) for path in paths))
            raise BadInput(f"pag_layers {name!r}: no self-attention of this model is there; there are {known}")
        found |= dict.fromkeys(own)
    return tuple(found)


def _named(name: str) -> str:
    name = name.strip()
    for theirs, ours in ELSEWHERE:
        name = theirs.sub(ours, name)
    return name


def _level(path: str) -> str:
    side, number, *_ = path.split(".")
    return side if side == MIDDLE else f"{side}.{number}"


def _itself(_: AttentionLayer, _x: Tensor, _query: Tensor, _key: Tensor, value: Tensor, _attended: Tensor, /) -> Tensor:
    return merge_heads(value)
