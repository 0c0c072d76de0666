"""`atelier generate`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli.fields import Command
from atelier.cli.given import PREVIEW_SECONDS, Changes, Preview, StylesFile, Wildcards, changed, merged, told
from atelier.cli.texts import text_of
from atelier.errors import BadFile, BadInput

if TYPE_CHECKING:
    from atelier.cli.regenerate import Original
    from atelier.request.events import Event
    from atelier.request.model import Request
    from atelier.runtime.engine import Engine

From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="An image to generate again, with what is said here changed; a .txt with an infotext works too.",
        show_default=False,
        rich_help_panel="Other",
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        help="File with a prompt on each line, or options such as --prompt TEXT --steps 20 (docs/comparing.md).",
        show_default=False,
        rich_help_panel="Prompt",
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify", help="Compare with the image of --from: say what differs, and why.", rich_help_panel="Other"
    ),
]


def run(
    fields: Mapping[str, object],
    *,
    prompts: Prompts = None,
    styles_file: StylesFile = None,
    wildcards: Wildcards = None,
    preview: Preview = None,
    change: Changes = None,
    original: From = None,
    verify: Verify = False,
) -> None:
    """Generate images from a prompt, or generate an image again.

    Each image carries everything needed to generate it again.
    """
    from atelier.cli import progress, regenerate

    asked = merged(changed(change or ()), fields)
    _check(asked, prompts, original, verify=verify)
    seen = None if original is None else regenerate.Original.read(original)
    requests, notes = _asked(asked, seen) if prompts is None else _from_file(prompts, asked)
    if verify and len(requests) * requests[0].batch_size * requests[0].batch_count != 1:
        count = requests[0].batch_size * requests[0].batch_count
        raise BadInput(f"--verify compares one image, and {count} are asked for")
    display = progress.display(preview=preview)
    seconds = None if display.draw is None else PREVIEW_SECONDS
    happening = told(
        requests,
        lambda engine: _events(engine, requests, seconds),
        styles_file=styles_file,
        wildcards=wildcards,
        notes=notes,
    )
    with closing(happening) as events:
        generated = display.follow(events)
    if verify and seen is not None and not regenerate.verify(seen, generated):
        raise typer.Exit(1)


generate = Command(run)
app = typer.Typer(add_completion=False)
app.command("generate")(generate)


def _check(fields: Mapping[str, object], prompts: Path | None, original: Path | None, *, verify: bool) -> None:
    if prompts is not None and original is not None:
        raise BadInput("--prompts and --from exclude each other: leave one out")
    if original is None and verify:
        raise BadInput("--verify needs --from IMAGE")
    if original is None and prompts is None and "prompt" not in fields:
        raise BadInput('nothing to generate: atelier generate "a red apple"')


def _asked(fields: Mapping[str, object], original: Original | None) -> tuple[tuple[Request, ...], Sequence[str]]:
    from atelier.request.table import request_of

    if original is None:
        return (request_of(fields),), ()
    return (original.request(fields),), original.notes()


def _events(engine: Engine, requests: Sequence[Request], previews: float | None) -> Generator[Event]:
    from atelier.runtime.several import several

    if len(requests) == 1:
        return engine.events(requests[0], previews=previews)
    return several(engine, requests, previews=previews)


def _from_file(path: Path, fields: Mapping[str, object]) -> tuple[tuple[Request, ...], list[str]]:
    """The requests of a file of prompts, and what is to say of it. Raises BadFile and BadInput."""
    from atelier.request.prompt_file import prompt_lines, requests

    lines = prompt_lines(text_of(path))
    if not lines:
        raise BadFile(path, "has no prompts: write one on each line")
    try:
        made = requests(lines, fields)
    except BadInput as error:
        raise BadFile(path, str(error)) from None
    return made, [f"{path}: {note}" for line in lines for note in line.notes]
