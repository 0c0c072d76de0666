"""For those who write prompts: what one means, which wildcards there are, and the cells of a comparison."""

from __future__ import annotations

import random
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field, JsonValue

from atelier.api.caller import Behind, Caller
from atelier.api.v1.generate import PROMPT_LENGTH, GenerateFields, given
from atelier.api.v1.named import Named
from atelier.api.v1.shapes import Page, Shape
from atelier.errors import BadInput
from atelier.limits import CALLS
from atelier.request.grid.asked import DRAWN_SEEDS, grid_of
from atelier.request.grid.cells import Cell, Grid, cells, settled
from atelier.request.table import said

routes = APIRouter(tags=["prompts"])
Text = Annotated[str, Field(max_length=PROMPT_LENGTH)]
Name = Annotated[str, Field(max_length=4096)]
MOST_CELLS = 1000
"""Of a comparison that is asked for over HTTP: as many as one may put together into one archive."""


class PromptFields(Named):
    """steps: of the sampler, for what is active when; seed: what choices and wildcards are drawn from."""

    prompt: Text
    styles: Annotated[list[Name], Field(max_length=256, default_factory=list)]
    steps: Annotated[int, Field(ge=CALLS[0], le=CALLS[1])] = 20
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    emphasis: Name = "Original"


class NetworkShape(Shape):
    """A network that a prompt names, and how strongly it acts on the text encoders and the denoiser."""

    type: str
    name: str
    te: float
    unet: float
    dyn: float | None
    args: list[str]


class WeighedShape(Shape):
    text: str
    weight: float


class SpanShape(Shape):
    """until: the last call of the denoiser at which the text is active."""

    until: int
    text: str


class PromptShape(Shape):
    """text: with every choice made, without networks. parts: those of AND. count: tokens of the longest text, in
    `chunks` chunks of `room`."""

    text: str
    attention: list[WeighedShape]
    schedule: list[SpanShape]
    parts: list[WeighedShape]
    networks: list[NetworkShape]
    warnings: list[str]
    count: int
    chunks: int
    room: int


class GridFields(Named):
    """request: the fields of a request; x, y, z: what changes along an axis, as `steps=10,20,30` or
    `prompt-sr=apple,pear` (docs/comparing.md). matrix: the prompt's parts at | are the axes."""

    request: GenerateFields
    x: Text | None = None
    y: Text | None = None
    z: Text | None = None
    matrix: bool = False
    vary_seed: bool = False


class AxisShape(Shape):
    title: str
    labels: list[str]


class CellShape(Shape):
    """x, y, z: numbers of the values along the axes; fields: what POST /v1/jobs takes for this image."""

    x: int
    y: int
    z: int
    fields: dict[str, JsonValue]


class GridShape(Shape):
    """cells: in the order in which they cost least to make."""

    x: AxisShape
    y: AxisShape
    z: AxisShape
    cells: list[CellShape]


@routes.post("/v1/prompt")
async def explained(body: PromptFields, service: Behind, _owner: Caller) -> PromptShape:
    """What a prompt means: weights, what is active when, networks, tokens."""
    return PromptShape.model_validate(await service.explain(body.model_dump()))


@routes.get("/v1/wildcards")
async def wildcards(service: Behind, _owner: Caller) -> Page[str]:
    """Names that a prompt can say as __NAME__."""
    return Page[str](data=list(await service.wildcards()))


@routes.post("/v1/grid")
async def grid(body: GridFields, _owner: Caller) -> GridShape:
    """The requests of a comparison, seeds drawn; nothing is generated yet: each is asked for as a job of its own."""
    asked = grid_of(given(body.request), x=body.x, y=body.y, z=body.z, matrix=body.matrix, vary_seed=body.vary_seed)
    found = settled(asked, lambda _: random.SystemRandom().randrange(DRAWN_SEEDS))
    shape = found.shape
    if shape.x * shape.y * shape.z > MOST_CELLS:
        raise BadInput(f"the comparison has {shape.x * shape.y * shape.z} images: at most {MOST_CELLS} are taken")
    axes = {name: _axis(found, number) for number, name in enumerate("xyz")}
    return GridShape(**axes, cells=[_cell(cell) for cell in cells(found)])


def _axis(grid: Grid, number: int) -> AxisShape:
    axis = grid.axes[number]
    return AxisShape(title=axis.title, labels=list(axis.labels))


def _cell(cell: Cell) -> CellShape:
    return CellShape(x=cell.place.x, y=cell.place.y, z=cell.place.z, fields=dict(said(cell.request)))
