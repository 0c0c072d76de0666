"""Names of RRDBNet. The published ones are BasicSR's (Real-ESRGAN). Two older spellings are read as well: the first
ESRGAN's, which counts the layers, and that of BSRGAN and RealSR, which has a trunk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name

if TYPE_CHECKING:
    from atelier.models.rrdbnet import RrdbSpec

FIRST_UP = 3
"""Of the first ESRGAN's layers: an enlargement, a convolution, a rectifier, and the next begins."""


def names(spec: RrdbSpec) -> Iterator[Name]:
    """Every parameter of `RrdbNet(spec)`."""
    yield from _layer("conv_first", "conv_first", "model.0", "conv_first")
    for n in range(spec.blocks):
        yield from _block(n, pointwise=spec.pointwise)
    yield from _layer("conv_body", "conv_body", f"model.1.sub.{spec.blocks}", "trunk_conv")
    for n in range(spec.doublings):
        yield from _layer(f"ups.{n}", f"conv_up{n + 1}", f"model.{FIRST_UP + 3 * n}", f"upconv{n + 1}")
    last = FIRST_UP + 3 * spec.doublings
    yield from _layer("conv_hr", "conv_hr", f"model.{last - 1}", "HRconv")
    yield from _layer("conv_last", "conv_last", f"model.{last + 1}", "conv_last")


def _block(n: int, *, pointwise: bool) -> Iterator[Name]:
    for k in (1, 2, 3):
        ours, old, trunk = f"body.{n}.rdb{k}", f"model.1.sub.{n}.RDB{k}", f"RRDB_trunk.{n}.RDB{k}"
        for i in range(1, 6):
            yield from _layer(f"{ours}.conv{i}", f"{ours}.conv{i}", f"{old}.conv{i}.0", f"{trunk}.conv{i}")
        if pointwise:
            yield _name(f"{ours}.conv1x1", f"{ours}.conv1x1", f"{old}.conv1x1", f"{trunk}.conv1x1", "weight")


def _layer(ours: str, published: str, old: str, trunk: str) -> Iterator[Name]:
    yield _name(ours, published, old, trunk, "weight")
    yield _name(ours, published, old, trunk, "bias")


def _name(ours: str, published: str, old: str, trunk: str, kind: str) -> Name:
    also = (f"{old}.{kind}", f"{trunk}.{kind}")
    return Name(f"{ours}.{kind}", f"{published}.{kind}", f"{published}.{kind}", also=also)
