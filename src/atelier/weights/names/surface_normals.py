"""Names of the network of surface normals, as published (scannet.pt)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.batch_norm import counts, layer, norm
from atelier.weights.names.name import Name

if TYPE_CHECKING:
    from atelier.models.surface_normals import SurfaceNormalsSpec

ENCODER = "encoder.original_model"
BOTH = ("weight", "bias")
REFINED = ("res4", "res2", "res1")
STEP = 2
"""A layer and a rectifier."""


def unread(name: str) -> bool:
    """What no output depends on: the norm behind the encoder's head, whose input the decoder takes, and counters."""
    return counts(name) or f"{ENCODER}.bn2." in name


def names(spec: SurfaceNormalsSpec) -> Iterator[Name]:
    """Every parameter of `SurfaceNormals(spec)`."""
    yield from _conv("encoder.first", f"{ENCODER}.conv_stem", f"{ENCODER}.bn1")
    for stage, depth in enumerate(spec.depths):
        for n in range(depth):
            place = f"{stage}.{n}"
            yield from _block(f"encoder.stages.{place}", f"{ENCODER}.blocks.{place}", expands=stage > 0)
    yield from layer("encoder.head", f"{ENCODER}.conv_head")
    yield from layer("bottom", "decoder.conv2", *BOTH)
    for n in range(len(spec.decoded)):
        yield from _up(f"ups.{n}", f"decoder.up{n + 1}._net")
    yield from layer("coarse", "decoder.out_conv_res8", *BOTH)
    for n, resolution in enumerate(REFINED):
        for i in range(4):
            yield from layer(f"refine.{n}.layers.{i}", f"decoder.out_conv_{resolution}.{STEP * i}", *BOTH)


def _block(ours: str, published: str, *, expands: bool) -> Iterator[Name]:
    parts = {"expand": "conv_pw", "see": "conv_dw", "project": "conv_pwl"}
    if not expands:
        parts = {"see": "conv_dw", "project": "conv_pw"}
    for n, (part, theirs) in enumerate(parts.items()):
        yield from _conv(f"{ours}.{part}", f"{published}.{theirs}", f"{published}.bn{n + 1}")
    yield from layer(f"{ours}.weigh.reduce", f"{published}.se.conv_reduce", *BOTH)
    yield from layer(f"{ours}.weigh.expand", f"{published}.se.conv_expand", *BOTH)


def _conv(ours: str, conv: str, normed: str) -> Iterator[Name]:
    yield from layer(f"{ours}.conv", conv)
    yield from norm(f"{ours}.norm", normed)


def _up(ours: str, published: str) -> Iterator[Name]:
    for n, place in ((1, 0), (2, 3)):
        yield from layer(f"{ours}.conv{n}", f"{published}.{place}", *BOTH)
        yield from norm(f"{ours}.norm{n}", f"{published}.{place + 1}")
