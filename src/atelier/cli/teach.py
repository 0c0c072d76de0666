"""`atelier teach METHOD`: a new thing, face or style from a few images, ready to be named in prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from atelier.cli.train import (
    AcceptOption,
    DeviceOption,
    SetOption,
    changes,
    follow,
    placed,
    say_what_is_missing,
    stopping,
)
from atelier.train.teaching.presets import METHODS, SUBJECTS, Subject

app = typer.Typer(help="Teach a model something new.")
HELP = "\n\n".join(
    (
        "Teach a model something new from a few images; what it learned is at once usable by name.",
        *(f"{method.name}: {method.help}." for method in METHODS.values()),
    )
)

Data = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        help="The training images: a folder with captions beside them or without, or kohya's folders.",
    ),
]
Base = Annotated[str, typer.Option(metavar="MODEL", help="The model that is taught: its name or path.")]
Prior = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Class images that the model generates first, so that it does not forget; 0 for none.",
        show_default="24 for the embedded model, else 0",
    ),
]
Out = Annotated[
    Path | None, typer.Option(help="Folder of the run; an existing run is resumed.", show_default="runs/NAME")
]
ModelsDir = Annotated[
    Path | None,
    typer.Option(help="The models folder for the result.", show_default="the first of those in use"),
]


@app.command("teach", help=HELP)
def teach(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="How: " + ", ".join(METHODS) + ".")],
    data: Data,
    *,
    name: Annotated[str, typer.Option(help="Name of the result.", show_default="the word")] = "",
    base: Base = "embedded",
    word: Annotated[str, typer.Option("--word", "--token", help="The word for the new thing in prompts.")] = "zwx",
    like: Annotated[str, typer.Option("--like", "--class", help="A known word for its class, such as dog.")] = "",
    preset: Annotated[str, typer.Option(help="What it is: " + ", ".join(SUBJECTS) + ".")] = "thing",
    prior: Prior = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps.", show_default="by the number of images")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate.", show_default="by method and model")] = None,
    out: Out = None,
    models_dir: ModelsDir = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result of that name.")] = False,
    change: SetOption = None,
    device: DeviceOption = "auto",
    accept_changes: AcceptOption = False,
) -> None:
    from rich.console import Console

    from atelier import compose
    from atelier.runtime.teaching import Wish, check_free, default_name, install, planned
    from atelier.train.runner import run_recipe

    own = changes(change) | _given({"run.steps": steps, "optim.rate": rate})
    called = _file_name(name or default_name(method, word))
    wish = Wish(method, data, called, base, word, like, _subject(preset), prior, own)
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    plan = planned(wish, compose.library(), console.print)
    folder = models_dir or compose.model_folders()[0]
    run = out or Path("runs") / wish.name
    check_free(plan, run, folder, overwrite=overwrite)
    with placed(device, plan.recipe.run) as placement:
        say_what_is_missing(console)
        with stopping(console) as signals:
            events = run_recipe(plan.spec, plan.recipe, placement, run, signals, accept_changes=accept_changes)
            made = follow(events, plan.recipe.run.steps, console)
    if made is not None:
        typer.echo("\n".join(map(str, install(plan, run, folder, overwrite=overwrite))))
        console.print(f"in prompts: {plan.uses}")


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _subject(preset: str) -> Subject:
    """Raises UnknownName."""
    from atelier.errors import UnknownName

    if preset not in SUBJECTS:
        raise UnknownName("preset", preset, SUBJECTS)
    return preset


def _file_name(name: str) -> str:
    """Raises BadInput for one with folders."""
    from atelier.errors import BadInput

    if Path(name).name != name:
        raise BadInput(f"--name {name}: is no name of a file; leave out the folders")
    return name
