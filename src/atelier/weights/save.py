"""From our tensors to the names and shapes of a published layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from atelier.weights.load import arrange_for
from atelier.weights.names.name import Layout, Name


def stored_as(
    tensors: Mapping[str, Tensor], names: Iterable[Name], layout: Layout, prefix: str = ""
) -> dict[str, Tensor]:
    """`tensors`, by our names, as `layout` keeps them. Raises KeyError for a name that is not there."""
    return {prefix + name.stored(layout): arrange_for(tensors[name.ours], name, layout) for name in names}
