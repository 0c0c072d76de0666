"""Names of T2I-Adapters. The ldm column is their authors'; diffusers' has `adapter.` in front of it.

The authors count the blocks of full ones through all levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name, both

if TYPE_CHECKING:
    from atelier.models.t2i_adapter import AdapterSpec


def names(spec: AdapterSpec) -> Iterator[Name]:
    """Every parameter of `T2IAdapter(spec)`."""
    if not spec.light:
        yield from both("conv_in", "conv_in", "conv_in")
    for level in range(len(spec.widths)):
        ours, theirs = f"levels.{level}", f"body.{level}"
        first = theirs if spec.light else f"body.{level * spec.blocks}"
        if spec.widens(level):
            yield from both(f"{ours}.conv_in", f"{first}.in_conv", f"{theirs}.in_conv")
        for j in range(spec.blocks):
            block = f"{theirs}.body.{j}" if spec.light else f"body.{level * spec.blocks + j}"
            for number in (1, 2):
                there = f"{theirs}.resnets.{j}.block{number}"
                yield from both(f"{ours}.blocks.{j}.conv{number}", f"{block}.block{number}", there)
        if spec.light:
            yield from both(f"{ours}.conv_out", f"{theirs}.out_conv", f"{theirs}.out_conv")
