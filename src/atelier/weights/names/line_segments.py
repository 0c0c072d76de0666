"""Names of M-LSD, as published (mlsd_large_512_fp32.pth): blocks are counted through all stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.batch_norm import layer, norm
from atelier.weights.names.name import Name

if TYPE_CHECKING:
    from atelier.models.line_segments import LineSegmentsSpec

FIRST = 15
"""The number of the decoder's first block; the trunk's go before it in the authors' count."""
JOINS = 4
BOTH = ("weight", "bias")


def names(spec: LineSegmentsSpec) -> Iterator[Name]:
    """Every parameter of `LineSegments(spec)`."""
    yield from _conv("trunk.first", "backbone.features.0.0", "backbone.features.0.1")
    number = 1
    for stage, depth in enumerate(spec.depths):
        for n in range(depth):
            yield from _block(f"trunk.stages.{stage}.{n}", f"backbone.features.{number}.conv", expands=stage > 0)
            number += 1
    for n in range(JOINS):
        yield from _join(f"joins.{n}", FIRST + 2 * n)
    last = f"block{FIRST + 2 * JOINS}"
    yield from _rectified("wide", f"{last}.conv1")
    yield from _rectified("narrow", f"{last}.conv2")
    yield from layer("last", f"{last}.conv3", *BOTH)


def _block(ours: str, published: str, *, expands: bool) -> Iterator[Name]:
    parts = ("expand", "see") if expands else ("see",)
    for n, part in enumerate(parts):
        yield from _conv(f"{ours}.{part}", f"{published}.{n}.0", f"{published}.{n}.1")
    yield from _conv(f"{ours}.project", f"{published}.{len(parts)}", f"{published}.{len(parts) + 1}")


def _conv(ours: str, conv: str, normed: str) -> Iterator[Name]:
    yield from layer(f"{ours}.conv", conv)
    yield from norm(f"{ours}.norm", normed)


def _join(ours: str, number: int) -> Iterator[Name]:
    """Two of the authors' blocks."""
    yield from _rectified(f"{ours}.decoded", f"block{number}.conv1")
    yield from _rectified(f"{ours}.given", f"block{number}.conv2")
    yield from _rectified(f"{ours}.mix1", f"block{number + 1}.conv1")
    yield from _rectified(f"{ours}.mix2", f"block{number + 1}.conv2")


def _rectified(ours: str, published: str) -> Iterator[Name]:
    yield from layer(f"{ours}.conv", f"{published}.0", *BOTH)
    yield from norm(f"{ours}.norm", f"{published}.1")
