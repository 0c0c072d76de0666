"""From our tensors to the names and shapes of a published layout."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from atelier.errors import BadInput
from atelier.weights.load import arrange_for
from atelier.weights.names.name import Layout, Name


def stored_as(
    tensors: Mapping[str, Tensor], names: Iterable[Name], layout: Layout, prefix: str = ""
) -> dict[str, Tensor]:
    """`tensors`, by our names, as `layout` keeps them; what it keeps in one piece is joined.

    Raises KeyError for a name that is not there, BadInput for a matrix that the layout leaves out and that changes
    something, ValueError where the pieces of a tensor are not all of it (the names
    are wrong).
    """
    whole: dict[str, Tensor] = {}
    pieces: defaultdict[str, list[tuple[Name, Tensor]]] = defaultdict(list)
    for name in names:
        if name.is_absent(layout):
            _check_identity(tensors[name.ours], prefix + name.stored(layout))
            continue
        tensor, spelling = arrange_for(tensors[name.ours], name, layout), prefix + name.stored(layout)
        if name.rows(layout) is None:
            whole[spelling] = tensor
        else:
            pieces[spelling].append((name, tensor))
    return whole | {spelling: _joined(spelling, found, layout) for spelling, found in pieces.items()}


def _check_identity(tensor: Tensor, spelling: str) -> None:
    if not tensor.is_meta and not torch.equal(tensor, torch.eye(len(tensor), dtype=tensor.dtype, device=tensor.device)):
        raise BadInput(f"{spelling}: changes the states, and this layout has no place for it; write the other layout")


def _joined(spelling: str, pieces: Iterable[tuple[Name, Tensor]], layout: Layout) -> Tensor:
    placed = sorted(
        ((rows, tensor) for name, tensor in pieces if (rows := name.rows(layout))), key=lambda p: p[0].start
    )
    end = 0
    for rows, tensor in placed:
        if rows.start != end or len(tensor) != rows.count:
            raise ValueError(f"{spelling}: its rows {end} to {rows.start} have no name, or two")
        end += rows.count
    if end != placed[0][0].total:
        raise ValueError(f"{spelling}: its rows from {end} on have no name")
    return torch.cat([tensor for _, tensor in placed])
