"""`atelier grid`: one request in many variants, side by side."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli.fields import Command
from atelier.cli.given import PREVIEW_SECONDS, Changes, Preview, StylesFile, Wildcards, changed, merged, opening, told
from atelier.errors import BadInput

if TYPE_CHECKING:
    from atelier.request.events import Event
    from atelier.request.grid.cells import Grid
    from atelier.runtime.engine import Engine

PANEL = "Axes"
AxisOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=VALUES",
        help="The field to change: any field, prompt-sr or prompt-order; values as 10,20 or 1-10 [4] or 0-1 (+0.25).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Matrix = Annotated[
    bool,
    typer.Option(
        "--matrix", help="For a prompt a|b|c: a, with and without b, with and without c.", rich_help_panel=PANEL
    ),
]
VarySeed = Annotated[
    bool,
    typer.Option("--vary-seed", help="Give every image its own seed instead of the same one.", rich_help_panel=PANEL),
]


def run(
    fields: Mapping[str, object],
    *,
    x: AxisOption = None,
    y: AxisOption = None,
    z: AxisOption = None,
    matrix: Matrix = False,
    vary_seed: VarySeed = False,
    styles_file: StylesFile = None,
    wildcards: Wildcards = None,
    preview: Preview = None,
    change: Changes = None,
) -> None:
    """Compare: generate a request with one field changed along each axis, and a labelled sheet of all.

    The same command again makes only what is missing in the folder.
    """
    from atelier.cli import progress
    from atelier.request.grid.asked import grid_of, requests_of

    asked = merged(changed(change or ()), fields)
    if "prompt" not in asked:
        raise BadInput('nothing to compare: atelier grid "a red apple" --x steps=10,20,30')
    if x is y is z is None and not matrix:
        raise BadInput('no axis: give --x, for example --x steps=10,20,30, or --matrix with a prompt "a|b"')
    grid = grid_of(asked, x=x, y=y, z=z, matrix=matrix, vary_seed=vary_seed)
    display = progress.display(preview=preview)
    seconds = None if display.draw is None else PREVIEW_SECONDS
    open_engine = opening(styles_file, wildcards, keep=True)
    happening = told(requests_of(grid), lambda engine: _events(engine, grid, seconds), open_engine)
    with closing(happening) as events:
        display.follow(events)


app = typer.Typer(add_completion=False)
app.command("grid")(Command(run))


def _events(engine: Engine, grid: Grid, previews: float | None) -> Generator[Event]:
    from atelier.runtime.comparing import events

    return events(engine, grid, previews=previews)
