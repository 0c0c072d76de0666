"""Names of PiDiNet, as published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name

if TYPE_CHECKING:
    from atelier.models.pidinet import PidiNetSpec

STAGES, WIDE = 4, 4
WEIGHT, BOTH = ("weight",), ("weight", "bias")


def names(_: PidiNetSpec) -> Iterator[Name]:
    """Every parameter of `PidiNet(spec)`."""
    yield from _layer("first", "init_block", WEIGHT)
    for stage in range(STAGES):
        yield from _stage(stage)
        yield from _side(stage)
    yield from _layer("classifier", "classifier", BOTH)


def _stage(stage: int) -> Iterator[Name]:
    for n in range(3 if stage == 0 else 4):
        ours, published = f"stages.{stage}.{n}", f"block{stage + 1}_{n + 1}"
        yield from _layer(f"{ours}.conv1", f"{published}.conv1", WEIGHT)
        yield from _layer(f"{ours}.conv2", f"{published}.conv2", WEIGHT)
        if stage > 0 and n == 0:
            yield from _layer(f"{ours}.shortcut", f"{published}.shortcut", BOTH)


def _side(stage: int) -> Iterator[Name]:
    ours = f"sides.{stage}"
    yield from _layer(f"{ours}.narrow", f"dilations.{stage}.conv1", BOTH)
    for n in range(WIDE):
        yield from _layer(f"{ours}.wide.{n}", f"dilations.{stage}.conv2_{n + 1}", WEIGHT)
    yield from _layer(f"{ours}.attention1", f"attentions.{stage}.conv1", BOTH)
    yield from _layer(f"{ours}.attention2", f"attentions.{stage}.conv2", WEIGHT)
    yield from _layer(f"{ours}.reduce", f"conv_reduces.{stage}.conv", BOTH)


def _layer(ours: str, published: str, kinds: tuple[str, ...]) -> Iterator[Name]:
    for kind in kinds:
        yield Name(f"{ours}.{kind}", f"{published}.{kind}", f"{published}.{kind}")
