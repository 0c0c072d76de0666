"""Names of the network that draws anime lines, as published (netG.pth): each depth lies within the one above it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.batch_norm import layer
from atelier.weights.names.name import Name

if TYPE_CHECKING:
    from atelier.models.anime_lines import AnimeLinesSpec

OUTER, INNER = "model.model.", "model."


def names(spec: AnimeLinesSpec) -> Iterator[Name]:
    """Every parameter of `AnimeLines(spec)`."""
    deepest = len(spec.widths) - 1
    for depth in range(len(spec.widths)):
        down, up = places(depth, is_deepest=depth == deepest)
        yield from layer(f"down.{depth}", down, "weight", "bias")
        yield from layer(f"up.{depth}", up, "weight", "bias")


def places(depth: int, *, is_deepest: bool) -> tuple[str, str]:
    """The published names of the convolutions that halve and double at a depth. Rectifiers and norms are counted:
    the outermost level has none before its convolutions, the deepest no norm between them."""
    if depth == 0:
        return f"{OUTER}0", f"{OUTER}3"
    prefix = f"{OUTER}1.{INNER}" + f"3.{INNER}" * (depth - 1)
    return f"{prefix}1", f"{prefix}{3 if is_deepest else 5}"
