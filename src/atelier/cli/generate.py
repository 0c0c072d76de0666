"""`atelier generate`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli import many
from atelier.cli.fields import Command
from atelier.cli.given import (
    PREVIEW_SECONDS,
    Changes,
    Preview,
    StylesFile,
    Webui,
    Wildcards,
    changed,
    has_vae_in,
    merged,
    opening,
    told,
)
from atelier.cli.texts import text_of
from atelier.errors import BadFile, BadInput

if TYPE_CHECKING:
    from atelier.cli.progress import Display
    from atelier.cli.regenerate import Original
    from atelier.request.events import Event
    from atelier.request.model import Request
    from atelier.runtime.engine import Engine

From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="An image to generate again, with the changes given here; a .txt with an infotext works too.",
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
Loops = Annotated[
    int,
    typer.Option(
        min=1,
        max=1000,
        metavar="N",
        help="With --image: generate this many times, each from the previous image, with the next seed.",
        show_default="1",
        rich_help_panel="From an image",
    ),
]

LastStrength = Annotated[
    float | None,
    typer.Option(
        "--last-strength",
        metavar="X",
        min=0,
        max=1,
        help="With --loops: strength of the last loop; it changes gradually from --strength.",
        show_default="the same in all",
        rich_help_panel="From an image",
    ),
]
StrengthCurve = Annotated[
    many.Curve,
    typer.Option(
        "--strength-curve",
        metavar="NAME",
        case_sensitive=False,
        help="How the strength changes: early (Aggressive), evenly (Linear), late (Lazy).",
        rich_help_panel="From an image",
    ),
]


def run(
    fields: Mapping[str, object],
    *,
    prompts: Prompts = None,
    styles_file: StylesFile = None,
    wildcards: Wildcards = None,
    webui_dir: Webui = None,
    preview: Preview = None,
    change: Changes = None,
    original: From = None,
    verify: Verify = False,
    loops: Loops = 1,
    last_strength: LastStrength = None,
    strength_curve: StrengthCurve = many.Curve.LINEAR,
) -> None:
    """Generate images from a prompt, or generate an image again.

    Each image carries everything needed to generate it again. --image FOLDER generates from every image in it.
    """
    from atelier.cli import progress, regenerate

    asked = merged(changed(change or ()), fields)
    _check(asked, prompts, original, verify=verify)
    seen = None if original is None else regenerate.Original.read(original)
    is_many = many.is_folder(asked) or loops > 1
    strengths = many.Strengths(last_strength, strength_curve)
    _check_loops(strengths, loops, prompts, compares_many=verify and is_many)
    if is_many:
        many.check_output(asked)
    display, keep = progress.display(preview=preview), is_many or prompts is not None
    open_engine = opening(styles_file, wildcards, keep=keep, installations=webui_dir or ())

    def one(fields: Mapping[str, object]) -> list[Path]:
        """Generates a request, or those of a file; returns where their images lie."""
        requests, notes = _asked(fields, seen, webui_dir or ()) if prompts is None else _from_file(prompts, fields)
        return _shown(requests, notes, seen if verify else None, display, open_engine)

    def run_of(fields: dict[str, object]) -> None:
        if loops == 1:
            one(fields)
        else:
            many.again({**({} if seen is None else seen.strength), **fields}, loops, one, strengths)

    _each(asked, run_of)


def _each(asked: dict[str, object], run: Callable[[dict[str, object]], None]) -> None:
    """From every image of a folder, or once."""
    if many.is_folder(asked):
        many.each(many.folder_runs(asked), run)
    else:
        run(asked)


def _check_loops(strengths: many.Strengths, loops: int, prompts: Path | None, *, compares_many: bool) -> None:
    """Raises BadInput for options that exclude each other."""
    if compares_many:
        raise BadInput("--verify compares one image: leave out --loops, and name one --image")
    if prompts is not None and loops > 1:
        raise BadInput("--prompts and --loops exclude each other: leave one out")
    if strengths.last is not None and loops == 1:
        raise BadInput("--last-strength is that of the last loop: give --loops, or --strength for one image")
    if strengths.last is None and strengths.curve is not many.Curve.LINEAR:
        raise BadInput("--strength-curve is the way to --last-strength: give it, or leave the curve out")


def _shown(
    requests: Sequence[Request],
    notes: Sequence[str],
    compared: Original | None,
    display: Display,
    open_engine: Callable[[], Engine],
) -> list[Path]:
    """Generates and shows; returns where images were saved. Raises typer.Exit where what is compared differs."""
    from atelier.cli import many, regenerate

    count = sum(request.batch_size * request.batch_count for request in requests)
    if compared is not None and count != 1:
        raise BadInput(f"--verify compares one image, and {count} are asked for")
    seconds = None if display.draw is None else PREVIEW_SECONDS
    saved: list[Path] = []
    happening = told(requests, lambda engine: _events(engine, requests, seconds), open_engine, notes)
    with closing(happening) as events:
        generated = display.follow(many.noting(events, saved))
    if compared is not None and not regenerate.verify(compared, generated):
        raise typer.Exit(1)
    return saved


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


def _asked(
    fields: Mapping[str, object], original: Original | None, installations: Sequence[Path]
) -> tuple[tuple[Request, ...], Sequence[str]]:
    from atelier.request.table import request_of

    if original is None:
        return (request_of(fields),), ()
    request = original.request(fields, has_vae_in(installations))
    return (request,), original.notes(request)


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
