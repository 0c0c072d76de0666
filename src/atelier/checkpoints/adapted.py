"""Which models can have the layers that a weight adapter changes: by their places, their depths and their widths.

Each layer rules families out, and none rules one in: those that are left are those the adapter may be for. The sizes
are those of the published models; in others, such as distilled ones and small ones, none may be left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Module(NamedTuple):
    """A layer that an adapter changes. width: how many numbers it reads at once, None where the tensors do not tell;
    dimensions: of its weight, where they tell."""

    name: str
    width: int | None = None
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a published U-Net: channels and layers of its transformers at each level, and in the middle; context: width of
    the text states; projected: dimensions of the weights around its transformers."""

    family: str
    widths: tuple[int, ...]
    depth: tuple[int, ...]
    middle: int
    context: int
    projected: int = 2


OLD = (320, 640, 1280, 1280), (1, 1, 1, 0), 1
UNETS = (
    Sizes("sd1", *OLD, 768, projected=4),
    Sizes("sd2", *OLD, 1024),
    Sizes("sdxl", (320, 640, 1280), (0, 2, 10), 10, 2048),
    Sizes("sdxl", (384, 768, 1536, 1536), (0, 4, 4, 0), 4, 1280),
)
"""The last is XL's refiner."""
BLOCKS = 2
"""Of residual layers at each level on the way down; on the way up there is one more."""
KERNEL = 9
"""Numbers of a kernel, where a tensor has them beside its channels."""

SINGLE = re.compile(r"(?:^|_)(?:(input|output)_blocks_(\d+)|(middle)_block)_\d+_(.+)$")
DIFFUSERS = re.compile(
    r"(?:^|_)(?:(down|up)_blocks_(\d+)_(?:attention|resnet|(?:down|up)sampler)s|(mid)_block_(?:attention|resnet)s)_\d+_(.+)$"
)
TRANSFORMER = re.compile(r"transformer_blocks_(\d+)_(.+)$")
AROUND = ("proj_in", "proj_out", "norm")
OF_TEXT, HIDDEN, OF_TIME = ("attn2_to_k", "attn2_to_v"), "ff_net_2", ("emb_layers_1", "time_emb_proj")
OF_LEVEL = ("out_layers_3", "conv2", "op", "conv")
"""Convolutions that read as many channels as their level has."""

TOWERS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("lora_te3_", "text_encoder_3.", "text_encoders.t5xxl."), ("sd3",)),
    (("lora_te2_encoder_block_",), ("flux",)),
    (("lora_te2_", "text_encoder_2.", "text_encoders.clip_g."), ("sdxl", "sd3")),
)
"""What the names of text encoders begin with that only some families have."""
FIRST_TOWER = ("lora_te", "text_encoder.")
NUMBERED, ALONE = "lora_te1_", "lora_te_"
TEXT_WIDTHS = {768: ("sd1", "sdxl", "sd3"), 1024: ("sd2",), 1280: ("sdxl",)}


def possible(modules: Iterable[Module], *, exact: bool = False) -> tuple[str, ...] | None:
    """The families that have all of these layers, the most common first; None where no layer tells any. exact: also by
    whether weights around transformers are linear or 1x1 convolutions, which converted models mix."""
    left: tuple[str, ...] | None = None
    unets = UNETS
    for module in modules:
        flat = module.name.replace(".processor.", ".").replace(".", "_")
        place = SINGLE.search(flat) or DIFFUSERS.search(flat)
        if place is not None:
            told = module if exact else module._replace(dimensions=None)
            unets = tuple(own for own in unets if _has(own, place, told))
            found: tuple[str, ...] | None = tuple(dict.fromkeys(own.family for own in unets))
        else:
            found = _of_tower(module)
        if found is not None:
            left = found if left is None else tuple(family for family in left if family in found)
    return left


def _has(own: Sizes, place: re.Match[str], module: Module) -> bool:
    """Whether a U-Net has a layer at this place that reads so many numbers."""
    way, number, middle, rest = place.groups()
    level = len(own.widths) - 1 if middle else _level(own, way, int(number))
    if level is None:
        return False
    depth, width = own.middle if middle else own.depth[level], own.widths[level]
    inner = TRANSFORMER.match(rest)
    if inner is not None:
        reads = own.context if inner[2].startswith(OF_TEXT) else width * (4 if inner[2] == HIDDEN else 1)
        return int(inner[1]) < depth and module.width in {None, reads}
    if rest in AROUND:
        fits = module.dimensions in {None, own.projected} or rest == "norm"
        return depth > 0 and fits and module.width in {None, width}
    wanted = 4 * own.widths[0] if rest in OF_TIME else width if rest in OF_LEVEL else None
    return None in {wanted, module.width} or module.width in {wanted, KERNEL * (wanted or 0)}


def _level(own: Sizes, way: str, number: int) -> int | None:
    """Of a block; None where the U-Net has none of that number."""
    last = len(own.widths) - 1
    level = {
        "input": max(number - 1, 0) // (BLOCKS + 1),
        "output": last - number // (BLOCKS + 1),
        "down": number,
        "up": last - number,
    }[way]
    return level if 0 <= level <= last else None


def _of_tower(module: Module) -> tuple[str, ...] | None:
    """The families whose text encoders have the layer; hidden layers are four times as wide."""
    for beginnings, families in TOWERS:
        if module.name.startswith(beginnings):
            return families
    if not module.name.startswith(FIRST_TOWER) and "text_model" not in module.name:
        return None
    found = TEXT_WIDTHS.get((module.width or 0) // (4 if module.name.endswith("fc2") else 1))
    if module.name.startswith(NUMBERED):
        return ("sdxl", "sd3")
    if module.name.startswith(ALONE) and (found is None or "sd1" in found):
        return ("sd1", "sd2") if found is None else ("sd1",)
    return found
