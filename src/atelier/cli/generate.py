"""`atelier generate`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from atelier.request.events import Event
    from atelier.request.model import Request, Rng

OUTPUTS = "outputs"
PREVIEW_SECONDS = 0.5


def generate(
    prompt: Annotated[str, typer.Argument(help="What to paint.", show_default=False)],
    negative: Annotated[str, typer.Option(help="What to keep away from.", show_default=False)] = "",
    model: Annotated[
        str | None, typer.Option(help="Name or path of a model.", show_default="the embedded model")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the sampler.", show_default="the model's")] = None,
    sampler: Annotated[str | None, typer.Option(help="Name of the sampler.", show_default="the model's")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Name of the schedule.", show_default="the sampler's")] = None,
    cfg_scale: Annotated[
        float | None, typer.Option(help="How strongly to follow the prompt.", show_default="the model's")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the first picture; the next one has the next.", show_default="random")
    ] = None,
    rng: Annotated[str, typer.Option(help="Where noise comes from: portable, cpu or nv.")] = "portable",
    width: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.", show_default="the model's")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels, a multiple of 8.", show_default="the model's")] = None,
    batch_size: Annotated[int, typer.Option(help="Pictures in a batch.")] = 1,
    batch_count: Annotated[int, typer.Option(help="Batches.")] = 1,
    output: Annotated[str, typer.Option("--output", "-o", help="A folder, or a file name ending in .png.")] = OUTPUTS,
    preview: Annotated[
        bool | None,
        typer.Option(
            "--preview/--no-preview",
            help="Show the picture as it grows.",
            show_default="in terminals that show pictures",
        ),
    ] = None,
) -> None:
    """Paint pictures from a prompt.

    Each picture is a PNG that carries everything needed to paint it again.
    """
    from atelier.cli import progress
    from atelier.request.model import Request

    request = Request(
        prompt=prompt,
        negative_prompt=negative,
        model=model,
        steps=steps,
        sampler=sampler,
        scheduler=scheduler,
        cfg_scale=cfg_scale,
        seed=seed,
        rng=cast("Rng", rng),
        width=width,
        height=height,
        batch_size=batch_size,
        batch_count=batch_count,
        output=output,
    )
    display = progress.display(preview=preview)
    with closing(_events(request, shows=display.draw is not None)) as events:
        display.follow(events)


def _events(request: Request, *, shows: bool) -> Generator[Event]:
    """Imports torch at the first event, so that the progress bar is there before."""
    from atelier.compose import studio
    from atelier.runtime.device import use_granted_cores

    use_granted_cores()
    yield from studio(keep=False).events(request, previews=PREVIEW_SECONDS if shows else None)
