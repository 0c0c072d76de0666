"""The cells of a grid: which requests it is, and in which order they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

from atelier.errors import BadInput
from atelier.request.grid.axes import NOTHING, TURNS, Axis, applied, csv_line
from atelier.request.infotext.keys import Settings
from atelier.request.model import Request
from atelier.request.resolve import ALL_SEEDS
from atelier.request.table import request_of

MAX_CELLS = 10_000
SEEDS = ("seed", "variation_seed")
STRENGTH = "variation_strength"
OPEN = -1
"""The seed that is drawn."""

Draw = Callable[[str], int]
"""Draws a seed, for what it is."""


class Place(NamedTuple):
    """Where a cell is: numbers of the values along the axes."""

    x: int
    y: int
    z: int


@dataclass(frozen=True, slots=True)
class Cell:
    place: Place
    request: Request


@dataclass(frozen=True, slots=True)
class Grid:
    """A request, by the names in FIELDS, and up to three axes along which it changes.

    vary_seed: every cell has a seed of its own, that of the first plus its number. fixed: the values of axes whose
    seeds were drawn, as text.
    """

    fields: Mapping[str, object]
    x: Axis = NOTHING
    y: Axis = NOTHING
    z: Axis = NOTHING
    vary_seed: bool = False
    fixed: tuple[str | None, str | None, str | None] = (None, None, None)

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        return self.x, self.y, self.z

    @property
    def shape(self) -> Place:
        """How many values each axis has."""
        return Place(*(len(axis.values) for axis in self.axes))


def settled(grid: Grid, draw: Draw) -> Grid:
    """The grid with every seed that was left open drawn, so that cells differ in what is compared alone.

    Raises BadInput for axes that change the same field.
    """
    changed = [name for axis in grid.axes if axis.kind != "nothing" for name in axis.changes]
    twice = next((name for name in changed if changed.count(name) > 1 and name not in {"replace", "append"}), None)
    if twice is not None:
        raise BadInput(f"two axes change {twice}: give all its values to one of them")
    drawn = {name: draw(name) for name in _seeds(grid) if _is_open(grid.fields.get(name))}
    axes = [_with_seeds(axis, draw) for axis in grid.axes]
    fixed = [None if new is old else csv_line(new.values) for new, old in zip(axes, grid.axes, strict=True)]
    x, y, z = axes
    return replace(grid, fields={**grid.fields, **drawn}, x=x, y=y, z=z, fixed=(fixed[0], fixed[1], fixed[2]))


def cells(grid: Grid) -> tuple[Cell, ...]:
    """In the order in which they are made: axes that load something change as seldom as can be, then z, y and x.

    Raises BadInput for too many, and for the first that is no request.
    """
    shape = grid.shape
    if shape.x * shape.y * shape.z > MAX_CELLS:
        raise BadInput(f"the grid has {shape.x * shape.y * shape.z} images, at most {MAX_CELLS} are made")
    if _several(grid.fields):
        raise BadInput("a grid has one image in each cell: leave the batch size and count out, or compare seeds")
    return tuple(Cell(place, _request(grid, place)) for place in _places(grid))


def number_of(place: Place, shape: Place) -> int:
    """The number of a cell as people read: along x, then down y, then z."""
    return place.x + shape.x * (place.y + shape.y * place.z)


def legend(first: Settings, grid: Grid) -> Settings:
    """What the infotext of a sheet says: its first image's, and the axes."""
    is_matrix = any(axis.kind == "append" for axis in grid.axes)
    said: dict[str, str | None] = {"script": "Prompt matrix" if is_matrix else "X/Y/Z plot"}
    for name, axis, fixed in zip("xyz", grid.axes, grid.fixed, strict=True):
        if axis.kind not in {"nothing", "append"}:
            said |= {f"{name}_type": axis.title, f"{name}_values": axis.text, f"fixed_{name}_values": fixed}
    return replace(first, **said)  # pyright: ignore[reportArgumentType] - all of them are text


def _places(grid: Grid) -> Iterator[Place]:
    costs = [axis.cost for axis in grid.axes]
    outermost = sorted((2, 1, 0), key=lambda axis: -costs[axis])
    for numbers in product(*(range(grid.shape[axis]) for axis in outermost)):
        at = dict(zip(outermost, numbers, strict=True))
        yield Place(at[0], at[1], at[2])


def _request(grid: Grid, place: Place) -> Request:
    fields: Mapping[str, object] = grid.fields
    for axis, number in sorted(zip(grid.axes, place, strict=True), key=lambda pair: TURNS.index(pair[0].kind)):
        fields = applied(axis, number, fields)
    request = request_of(fields)
    if not grid.vary_seed or request.seed is None:
        return request
    return request_of({**fields, "seed": (request.seed + number_of(place, grid.shape)) % ALL_SEEDS})


def _with_seeds(axis: Axis, draw: Draw) -> Axis:
    if axis.kind != "field" or axis.field not in SEEDS or not any(map(_is_open, axis.values)):
        return axis
    values = tuple(
        draw(f"{axis.field} {number}") if _is_open(value) else value for number, value in enumerate(axis.values)
    )
    return replace(axis, values=values, labels=tuple(f"{axis.title}: {value}" for value in values))


def _seeds(grid: Grid) -> tuple[str, ...]:
    """Those that matter: without a variation its seed would be told of as one without effect."""
    is_varied = STRENGTH in grid.fields or any(axis.field == STRENGTH for axis in grid.axes)
    return SEEDS if is_varied else SEEDS[:1]


def _is_open(seed: object) -> bool:
    return seed is None or str(seed) == str(OPEN)


def _several(fields: Mapping[str, object]) -> bool:
    return any(str(fields.get(name, 1)) != "1" for name in ("batch_size", "batch_count"))
