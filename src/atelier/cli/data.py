"""`atelier data`: what the embedded model was trained on, how scenes look, and images that a model is to be taught."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli import data_teaching

if TYPE_CHECKING:
    from atelier.train.data.dataset import Dataset
    from atelier.train.data.listing import DataList

app = typer.Typer(help="Training data: list the contents, preview scenes, prepare your own.", no_args_is_help=True)

for command in (data_teaching.inspect, data_teaching.crop, data_teaching.caption):
    app.command()(command)

COLUMNS = 6


@app.command("list")
def list_(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print everything, held-out pairs too, as JSON.")] = False
) -> None:
    """Print the concepts and backgrounds that the embedded model was trained on, and what was held out."""
    import json

    from atelier.train.data.listing import data_list

    data = data_list()
    typer.echo(json.dumps(data, ensure_ascii=False) if as_json else _table(data))


@app.command()
def preview(
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes, or of the held-out part of a folder.")] = 0,
    count: Annotated[int, typer.Option(min=1, max=600, help="How many images.")] = 24,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Width and height of an image in pixels.")] = 128,
    output: Annotated[Path, typer.Option(help="Where the sheet is written (PNG).")] = Path("outputs/data-preview.png"),
    folder: Annotated[
        Path | None, typer.Option("--data", help="A folder of images with .txt captions instead of the scenes.")
    ] = None,
    *,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="Show what training never sees: other scenes, or a tenth of the folder.")
    ] = False,
) -> None:
    """Write a sheet of training images with their captions."""
    from atelier.train.recipe import EMOJI, Data
    from atelier.train.sources import dataset as opened

    check_name(output)
    source = EMOJI if folder is None else str(folder)
    dataset = opened(Data(source=source, size=size, seed=seed), "held_out" if held_out else "train")
    _write_sheet(dataset, min(count, dataset.length or count), output)
    typer.echo(str(output))


def _table(data: DataList) -> str:
    from atelier.train.data.scenes import concepts

    by_category: dict[str, list[str]] = {}
    for concept in concepts():
        by_category.setdefault(concept.category, []).append(concept.name)
    lines = [f"{category} ({len(names)}): {', '.join(names)}" for category, names in by_category.items()]
    pairs, colours = (len(data["held_out"][key]) for key in ("pairs", "concept_backgrounds"))
    return "\n".join(
        (
            f"{len(data['concepts'])} concepts",
            *lines,
            f"{len(data['backgrounds'])} backgrounds: {', '.join(data['backgrounds'])}",
            f"held out of training: {pairs} ordered pairs, {colours} concepts on a background",
        )
    )


def check_name(output: Path) -> None:
    """Raises BadInput unless a sheet can be written under this name."""
    from atelier.errors import BadInput

    if output.suffix.lower() != ".png":
        raise BadInput(f"{output}: the sheet is written as PNG: use {output.with_suffix('.png')}")


def _write_sheet(dataset: Dataset, count: int, output: Path) -> None:
    from atelier.runtime import store
    from atelier.train.data.sheet import sheet

    page = sheet([dataset.image(i) for i in range(count)], [dataset.caption(i) for i in range(count)], COLUMNS)
    store.write_png(output, page)
