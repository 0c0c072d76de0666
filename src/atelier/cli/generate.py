"""`atelier generate`."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli.fields import Command, defaults
from atelier.errors import BadInput

if TYPE_CHECKING:
    from atelier.cli.regenerate import Original
    from atelier.request.events import Event
    from atelier.request.model import Request

PREVIEW_SECONDS = 0.5
DIGITS = 9
"""Of a side in pixels: more are no size."""
OWN_OPTIONS = frozenset({"styles_file", "wildcards", "preview", "no_preview", "set", "from", "verify"})
"""What the command has options for that is no field of a request."""


StylesFile = Annotated[
    Path | None, typer.Option(help="File of saved styles.", show_default="styles.csv", rich_help_panel="Prompt")
]
Wildcards = Annotated[
    Path | None,
    typer.Option(help="Folder of wildcard files (.txt).", show_default="wildcards", rich_help_panel="Prompt"),
]
Preview = Annotated[
    bool | None,
    typer.Option(
        "--preview/--no-preview",
        help="Show the image while it is made.",
        show_default="in terminals that show images",
        rich_help_panel="Output",
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any other field of a request (eta, s_churn, variation_strength, …; docs/cli.md); may be repeated.",
        show_default=False,
        rich_help_panel="Other",
    ),
]
From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="An image to generate again, with what is said here changed; a .txt with an infotext works too.",
        show_default=False,
        rich_help_panel="Other",
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

    merged = _merged(_changes(change or ()), fields)
    if original is None and (verify or "prompt" not in merged):
        raise BadInput(
            "--verify needs --from IMAGE" if verify else 'nothing to generate: atelier generate "a red apple"'
        )
    seen = None if original is None else regenerate.Original.read(original)
    request = _request(merged, seen)
    if verify and request.batch_size * request.batch_count != 1:
        raise BadInput(f"--verify compares one image, and {request.batch_size * request.batch_count} are asked for")
    display = progress.display(preview=preview)
    notes = () if seen is None else seen.notes()
    with closing(_events(request, styles_file, wildcards, notes, shows=display.draw is not None)) as events:
        generated = display.follow(events)
    if verify and seen is not None and not regenerate.verify(seen, generated):
        raise typer.Exit(1)


generate = Command(run)
app = typer.Typer(add_completion=False)
app.command("generate")(generate)


def _request(fields: Mapping[str, object], original: Original | None) -> Request:
    from atelier.request.table import request_of

    return request_of(fields) if original is None else original.request(fields)


def _changes(pairs: Sequence[str]) -> dict[str, object]:
    """The fields of --set. Raises BadInput."""
    fields: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        key = name.strip().lstrip("-").replace("-", "_")
        if not equals or not key:
            raise BadInput(f"--set {pair!r}: write it as NAME=VALUE, for example eta=0.5")
        _check_settable(key)
        if key in fields:
            raise BadInput(f"--set {key} is given twice: leave one out")
        fields[key] = (value.strip(),) if _is_list(key) else _value(value.strip())
    return fields


def _check_settable(key: str) -> None:
    """Raises BadInput for what an option of its own says and --set does not."""
    from atelier.request.table import FIELDS

    for name, field in FIELDS.items():
        option = "--" + key.replace("_", "-")
        if field.option is not None and option in field.option.names and key != name:
            raise BadInput(f"--set {key}: give it as {option}, or call it by its name, --set {name}=…")
    if key in OWN_OPTIONS:
        raise BadInput(f"--set {key}: it is no field of a request, give it as --{key.replace('_', '-')}")


def _is_list(key: str) -> bool:
    from atelier.request.table import FIELDS

    return key in FIELDS and FIELDS[key].kind == "texts"


def _merged(changes: Mapping[str, object], fields: Mapping[str, object]) -> dict[str, object]:
    """The fields of --set and those of options of their own, with what the command line takes where nobody says.

    Raises BadInput for a field that is given both ways.
    """
    both = next((name for name in changes if name in fields), None)
    if both is not None:
        raise BadInput(f"{both} is given twice, as an option and with --set: leave one out")
    return {**defaults(), **changes, **fields}


def _value(text: str) -> object:
    """A size as two numbers; everything else is left to the request, which knows what it needs."""
    width, times, height = text.partition("x")
    is_size = times and all(side.isdecimal() and len(side) <= DIGITS for side in (width, height))
    return (int(width), int(height)) if is_size else text


def _events(
    request: Request, styles_file: Path | None, wildcards: Path | None, notes: Sequence[str], *, shows: bool
) -> Generator[Event]:
    """Imports torch at the first event, so that the progress bar is there before."""
    from atelier.compose import engine, words
    from atelier.request.events import Warned
    from atelier.runtime.threads import settle_process, suit_threads_to

    yield from map(Warned, notes)
    settle_process(os.environ)
    engine_ = engine(keep=False, vocabulary=words(styles_file, wildcards))
    suit_threads_to(engine_.work(request), os.environ)
    yield from engine_.hashing(request)
    yield from engine_.events(request, previews=PREVIEW_SECONDS if shows else None)
