"""From what somebody asks for to a grid, and to its requests."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from pathlib import Path

from atelier.errors import BadInput
from atelier.request.grid.axes import Asked, axis_of, split
from atelier.request.grid.cells import Draw, Grid, cells, settled
from atelier.request.model import Request

DRAWN_SEEDS = 2**32


def grid_of(
    fields: Mapping[str, object],
    *,
    x: Asked = None,
    y: Asked = None,
    z: Asked = None,
    matrix: bool = False,
    vary_seed: bool = False,
) -> Grid:
    """fields: by their names in FIELDS; axes as `axis_of` reads them. matrix: the prompt's parts are x and y.

    Raises BadInput.
    """
    if not matrix:
        return Grid(fields, axis_of(x), axis_of(y), axis_of(z), vary_seed)
    if x is not None or y is not None:
        raise BadInput("--matrix is columns and rows already: give --z for a third axis, or make two grids")
    first, columns, rows = split(str(fields.get("prompt") or ""))
    return Grid({**fields, "prompt": first}, columns, rows, axis_of(z), vary_seed)


def requests_of(grid: Grid) -> tuple[Request, ...]:
    """The cells as requests, seeds drawn. Raises BadInput."""
    return tuple(cell.request for cell in cells(settled(grid, draw_for(grid))))


def draw_for(grid: Grid) -> Draw:
    """Draws seeds: with an output always the same for the same grid in the same folder, so that a second run finds
    the images of the first; else by chance."""
    output = grid.fields.get("output")
    if output is None:
        return lambda _: random.SystemRandom().randrange(DRAWN_SEEDS)
    asked = {name: repr(value) for name, value in sorted(grid.fields.items())}
    axes = [(axis.title, axis.field, axis.text) for axis in grid.axes]
    text = json.dumps([asked, axes, grid.vary_seed, str(Path(str(output)).expanduser().absolute())])
    return lambda what: int.from_bytes(hashlib.sha256(f"{what}\0{text}".encode("utf-8", "surrogatepass")).digest()[:4])
