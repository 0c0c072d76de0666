"""`atelier generate`."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli.fields import Command, defaults
from atelier.errors import BadInput

if TYPE_CHECKING:
    from atelier.cli.progress import Display
    from atelier.cli.regenerate import Original
    from atelier.request.events import Event
    from atelier.request.model import Request
    from atelier.runtime.engine import Engine

PREVIEW_SECONDS = 0.5
DIGITS = 9
"""Of a side in pixels: more are no size."""
OWN_OPTIONS = frozenset({"styles_file", "wildcards", "preview", "no_preview", "set", "from", "verify", "loops"})
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
Loops = Annotated[
    int,
    typer.Option(
        min=1,
        max=1000,
        help="With --image: generate so many times, each time from the image before, with the next seed.",
        show_default="1",
        rich_help_panel="From an image",
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
    loops: Loops = 1,
) -> None:
    """Generate images from a prompt, or generate an image again.

    Each image carries everything needed to generate it again. --image FOLDER generates from every image in it.
    """
    from atelier.cli import many, progress, regenerate

    merged = _merged(_changes(change or ()), fields)
    if original is None and (verify or "prompt" not in merged):
        raise BadInput(
            "--verify needs --from IMAGE" if verify else 'nothing to generate: atelier generate "a red apple"'
        )
    seen = None if original is None else regenerate.Original.read(original)
    is_folder = many.is_folder(merged)
    if verify and (is_folder or loops > 1):
        raise BadInput("--verify compares one image: leave out --loops, and name one --image")
    display = progress.display(preview=preview)
    open_engine = cache(lambda: _engine(styles_file, wildcards, keep=is_folder or loops > 1))

    def one(fields: Mapping[str, object]) -> list[Path]:
        """Generates a request; returns where its images lie."""
        return _shown(_request(fields, seen), seen, display, open_engine, verify=verify)

    def run_of(fields: dict[str, object]) -> None:
        many.again(fields, loops, one) if loops > 1 else one(fields)

    if is_folder:
        many.each(many.folder_runs(merged), run_of)
    else:
        run_of(merged)


def _shown(
    request: Request,
    seen: Original | None,
    display: Display,
    open_engine: Callable[[], Engine],
    *,
    verify: bool,
) -> list[Path]:
    """Generates and shows; returns where images were saved. Raises typer.Exit where what is verified differs."""
    from atelier.cli import many, regenerate

    if verify and request.batch_size * request.batch_count != 1:
        raise BadInput(f"--verify compares one image, and {request.batch_size * request.batch_count} are asked for")
    notes = () if seen is None else seen.notes()
    saved: list[Path] = []
    with closing(_events(request, open_engine, notes, shows=display.draw is not None)) as events:
        generated = display.follow(many.noting(events, saved))
    if verify and seen is not None and not regenerate.verify(seen, generated):
        raise typer.Exit(1)
    return saved


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


def _engine(styles_file: Path | None, wildcards: Path | None, *, keep: bool) -> Engine:
    """keep: networks stay in memory for the next request."""
    from atelier.compose import engine, words
    from atelier.runtime.threads import settle_process

    settle_process(os.environ)
    return engine(keep=keep, vocabulary=words(styles_file, wildcards))


def _events(
    request: Request, open_engine: Callable[[], Engine], notes: Sequence[str], *, shows: bool
) -> Generator[Event]:
    """Imports torch at the first event, so that the progress bar is there before."""
    from atelier.request.events import Warned
    from atelier.runtime.threads import suit_threads_to

    yield from map(Warned, notes)
    engine_ = open_engine()
    suit_threads_to(engine_.work(request), os.environ)
    yield from engine_.hashing(request)
    yield from engine_.events(request, previews=PREVIEW_SECONDS if shows else None)
