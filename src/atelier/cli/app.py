"""`atelier`: the commands, and what the command line does with errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NamedTuple, cast

import typer

from atelier import __version__
from atelier.cli.command import Strict
from atelier.cli.failure import TRACEBACK, failure
from atelier.errors import Interrupted
from atelier.runtime.threads import prepare_torch


class CommandGroup(NamedTuple):
    """Commands of a module that exports `app`; it is imported when one of them is asked for, so that help is fast."""

    module: str
    help: str


COMMANDS = {
    "generate": CommandGroup("atelier.cli.generate", "Generate images from a prompt, or generate an image again."),
    "upscale": CommandGroup("atelier.cli.upscale", "Make images larger."),
    "annotate": CommandGroup("atelier.cli.annotate", "Draw hints of images, to steer models by."),
    "grid": CommandGroup("atelier.cli.grid", "Compare: one request in many variants, side by side."),
    "interrogate": CommandGroup("atelier.cli.interrogate", "Say in words what images show."),
    "serve": CommandGroup("atelier.cli.serve", "Serve images over HTTP."),
    "submit": CommandGroup("atelier.cli.submit", "Ask a server for images."),
    "jobs": CommandGroup("atelier.cli.jobs", "List one's jobs at a server."),
    "watch": CommandGroup("atelier.cli.watch", "Show how a job of a server comes along."),
    "fetch": CommandGroup("atelier.cli.fetch", "Save the images of a job of a server."),
    "info": CommandGroup("atelier.cli.info", "Show how an image was made, or, without one, this installation."),
    "models": CommandGroup("atelier.cli.models", "List, inspect and convert models."),
    "prompt": CommandGroup("atelier.cli.prompt", "Show what a prompt means."),
    "data": CommandGroup("atelier.cli.data", "Inspect the training data."),
    "teach": CommandGroup("atelier.cli.teach", "Teach a model something new from a few images."),
    "train": CommandGroup("atelier.cli.train", "Train a model, or one of its parts."),
    "evaluate": CommandGroup("atelier.cli.evaluate", "Measure the quality of a model."),
}


def application(wanted: str | None = None) -> typer.Typer:
    """The whole command line; of the groups, only the one called `asked` is more than a name and a line of help."""
    app = typer.Typer(
        help="A complete Stable Diffusion: generate images from words, and train the model that does it.",
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_root)
    for name, group in COMMANDS.items():
        if name == wanted:
            _mount(app, name, group)
        else:
            app.add_typer(typer.Typer(help=group.help), name=name)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs a command; returns the exit code. An error is one line on stderr, whatever went wrong."""
    try:
        wanted = next((a for a in arguments if not a.startswith("-")), None)
        result: object = application(wanted)(arguments, prog_name="atelier", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        told = failure(error)
        if told.is_fault and os.environ.get(TRACEBACK):
            raise
        return _ended(told.message, told.exit_code)
    code = result if isinstance(result, int) else 0
    return _ended("stopped", code) if code == Interrupted.exit_code else code


def main() -> None:
    """The console script."""
    prepare_torch(os.environ)
    sys.exit(run(sys.argv[1:]))


def _mount(app: typer.Typer, name: str, group: CommandGroup) -> None:
    commands = cast("typer.Typer", import_module(group.module).app)
    for command in commands.registered_commands:
        command.cls = Strict
    only, *others = commands.registered_commands or [None]
    if only is None or others or commands.registered_groups or commands.registered_callback:
        app.add_typer(commands, name=name, help=group.help)
    else:
        assert only.callback is not None
        app.command(name, help=only.help, cls=Strict)(only.callback)


def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"atelier {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _ended(message: str, exit_code: int) -> int:
    if message:
        typer.echo(f"atelier: {message}", err=True)
    return exit_code
