"""Names of the tiny autoencoders, whose published files count their layers, each half by itself.

The ldm column has no `encoder.` or `decoder.` in front; diffusers' does not count the bend before the decoder's first
layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name, both, weight

if TYPE_CHECKING:
    from atelier.models.taesd import TinySpec

BENT = 1
"""Layers before the decoder's first convolution, which only the ldm layout counts."""


def encoder_names(spec: TinySpec) -> Iterator[Name]:
    """Every parameter of `TinyEncoder(spec)`."""
    yield from _layer("conv_in", 0, 0)
    at = 1
    for level, count in enumerate(spec.blocks):
        if level:
            yield _bare(f"levels.{level}.downsample", at, 0)
            at += 1
        for block in range(count):
            yield from _block(f"levels.{level}.blocks.{block}", at + block, 0)
        at += count
    yield from _layer("conv_out", at, 0)


def decoder_names(spec: TinySpec) -> Iterator[Name]:
    """Every parameter of `TinyDecoder(spec)`. Behind the first layer is a ReLU, before every enlarged one the
    enlargement."""
    yield from _layer("conv_in", BENT, BENT)
    at = BENT + 2
    for level, count in enumerate(reversed(spec.blocks)):
        for block in range(count):
            yield from _block(f"levels.{level}.blocks.{block}", at + block, BENT)
        at += count
        if level < len(spec.blocks) - 1:
            yield _bare(f"levels.{level}.upsample", at + 1, BENT)
            at += 2
    yield from _layer("conv_out", at, BENT)


def _block(ours: str, at: int, before: int) -> Iterator[Name]:
    for number, place in ((1, 0), (2, 2), (3, 4)):
        theirs = f"conv.{place}"
        yield from both(f"{ours}.conv{number}", f"{at}.{theirs}", f"layers.{at - before}.{theirs}")


def _layer(ours: str, at: int, before: int) -> Iterator[Name]:
    return both(ours, str(at), f"layers.{at - before}")


def _bare(ours: str, at: int, before: int) -> Name:
    return weight(ours, str(at), f"layers.{at - before}")
