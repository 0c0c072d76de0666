"""`atelier generate`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.errors import BadInput

if TYPE_CHECKING:
    from atelier.cli.repaint import Original
    from atelier.request.events import Event
    from atelier.request.model import Request

OUTPUTS = "outputs"
PREVIEW_SECONDS = 0.5


def generate(
    prompt: Annotated[str | None, typer.Argument(help="What to paint.", show_default=False)] = None,
    negative: Annotated[str | None, typer.Option(help="What to keep away from.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option(help="Name or path of a model.", show_default="the embedded model")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler.", show_default="the model's")] = None,
    sampler: Annotated[str | None, typer.Option(help="Name of the sampler.", show_default="DPM++ 2M")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Name of the schedule, or levels: 14.6,7,3,0.", show_default="the sampler's")
    ] = None,
    cfg_scale: Annotated[
        float | None, typer.Option(help="How strongly to follow the prompt.", show_default="the model's")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the first picture; the next one has the next.", show_default="random")
    ] = None,
    rng: Annotated[
        str | None, typer.Option(help="Where noise comes from: portable, cpu or nv.", show_default="portable")
    ] = None,
    width: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.", show_default="the model's")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.", show_default="the model's")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures in a batch.", show_default="1")] = None,
    batch_count: Annotated[int | None, typer.Option(help="Batches.", show_default="1")] = None,
    clip_skip: Annotated[
        int | None, typer.Option(help="Which of CLIP's last layers is read.", show_default="1")
    ] = None,
    emphasis: Annotated[
        str | None,
        typer.Option(help="How (word:1.2) is read: Original, No norm, Ignore, None, Comfy.", show_default="Original"),
    ] = None,
    style: Annotated[
        list[str] | None, typer.Option(help="Name of a saved style; may be repeated.", show_default=False)
    ] = None,
    styles_file: Annotated[Path | None, typer.Option(help="Where styles are kept.", show_default="styles.csv")] = None,
    wildcards: Annotated[
        Path | None, typer.Option(help="A folder of wildcard files (.txt).", show_default="wildcards")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other field of a request (eta, s_churn, variation_strength, …; docs/cli.md); may be repeated.",
            show_default=False,
        ),
    ] = None,
    original: Annotated[
        Path | None,
        typer.Option("--from", help="A picture to paint again, with what is said here changed.", show_default=False),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="A folder, or the name of a file.")] = OUTPUTS,
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with the picture of --from and say what differs, and why.")
    ] = False,
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Paint without networks, and models of --from, that are not there.")
    ] = False,
    preview: Annotated[
        bool | None,
        typer.Option(
            "--preview/--no-preview",
            help="Show the picture as it grows.",
            show_default="in terminals that show pictures",
        ),
    ] = None,
) -> None:
    """Paint pictures from a prompt, or paint a picture again.

    Each picture carries everything needed to paint it again.
    """
    from atelier.cli import progress, repaint

    said = {
        "prompt": prompt,
        "negative_prompt": negative,
        "model": model,
        "steps": steps,
        "sampler": sampler,
        "scheduler": scheduler,
        "cfg_scale": cfg_scale,
        "seed": seed,
        "rng": rng,
        "width": width,
        "height": height,
        "batch_size": batch_size,
        "batch_count": batch_count,
        "clip_skip": clip_skip,
        "emphasis": emphasis,
        "styles": tuple(style) if style else None,
        "lenient": lenient or None,
        "output": output,
    }
    fields = {**_changes(change or ()), **{name: value for name, value in said.items() if value is not None}}
    if original is None and (verify or prompt is None):
        raise BadInput(
            "--verify needs --from PICTURE" if verify else 'nothing to paint: atelier generate "a red apple"'
        )
    seen = None if original is None else repaint.Original.read(original)
    request = _request(fields, seen)
    if verify and request.batch_size * request.batch_count != 1:
        raise BadInput(f"--verify compares one picture, and {request.batch_size * request.batch_count} are asked for")
    display = progress.display(preview=preview)
    notes = () if seen is None else seen.notes()
    with closing(_events(request, styles_file, wildcards, notes, shows=display.draw is not None)) as events:
        painted = display.follow(events)
    if verify and seen is not None and not repaint.verify(seen, painted):
        raise typer.Exit(1)


def _request(fields: Mapping[str, object], original: Original | None) -> Request:
    from atelier.request.model import Request

    return Request.model_validate(fields) if original is None else original.request(fields)


def _changes(pairs: Sequence[str]) -> dict[str, object]:
    """The fields of --set. Raises BadInput."""
    fields: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadInput(f"--set {pair}: write it as NAME=VALUE, for example eta=0.5")
        fields[name.strip().replace("-", "_")] = _value(value.strip())
    return fields


def _value(text: str) -> object:
    """A size as two numbers; everything else is left to the request, which knows what it needs."""
    width, times, height = text.partition("x")
    return (int(width), int(height)) if times and width.isdecimal() and height.isdecimal() else text


def _events(
    request: Request, styles_file: Path | None, wildcards: Path | None, notes: Sequence[str], *, shows: bool
) -> Generator[Event]:
    """Imports torch at the first event, so that the progress bar is there before."""
    from atelier.compose import engine, words
    from atelier.request.events import Warned
    from atelier.runtime.threads import settle_process

    yield from map(Warned, notes)
    settle_process()
    engine_ = engine(keep=False, vocabulary=words(styles_file, wildcards))
    yield from engine_.events(request, previews=PREVIEW_SECONDS if shows else None)
