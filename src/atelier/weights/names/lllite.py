"""Names of ControlNet-LLLite: those of the ldm layout's projections, with underscores, whatever the layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from atelier.weights.names import unet
from atelier.weights.names.name import Name, both

if TYPE_CHECKING:
    from atelier.models.lllite import LiteSpec
    from atelier.models.unet import UNetSpec

PREFIX = "lllite_unet_"
READ = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q")
"""The projections that read positions of the map."""


def places(spec: UNetSpec) -> dict[str, str]:
    """Of each projection of a U-Net that may have one before it, its path, and what the file calls it."""
    found = ((name.ours.removesuffix(".weight"), name.ldm.removesuffix(".weight")) for name in unet.names(spec))
    return {ours: PREFIX + ldm.replace(".", "_") for ours, ldm in found if ours.endswith(READ)}


def names(spec: Sequence[LiteSpec], called: Mapping[str, str]) -> Iterator[Name]:
    """Every parameter of `LLLite(spec)`; called: see `places`."""
    for index, own in enumerate(spec):
        ours, theirs = f"layers.{index}", called[own.path]
        for place in range(len(own.convs)):
            layer = f"{theirs}.conditioning1.{2 * place}"
            yield from both(f"{ours}.convs.{place}", layer, layer)
        for layer in ("down", "mid", "up"):
            yield from both(f"{ours}.{layer}", f"{theirs}.{layer}.0", f"{theirs}.{layer}.0")
