"""Names of the soft edge network, as ControlNet's authors published it (ControlNetHED.pth)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from atelier.weights.names.name import Name

if TYPE_CHECKING:
    from atelier.models.hed import HedSpec


def names(spec: HedSpec) -> Iterator[Name]:
    """Every parameter of `Hed(spec)`."""
    yield Name("norm", "norm", "norm")
    for n, depth in enumerate(spec.depths):
        for layer in (*(f"convs.{i}" for i in range(depth)), "projection"):
            for kind in ("weight", "bias"):
                published = f"block{n + 1}.{layer}.{kind}"
                yield Name(f"blocks.{n}.{layer}.{kind}", published, published)
