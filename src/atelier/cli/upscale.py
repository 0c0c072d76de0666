"""`atelier upscale`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.cli.upscale_model import NEEDS_MODEL, PANEL, ByModel
from atelier.errors import AtelierError, BadFile, BadInput, Interrupted, StorageFull

if TYPE_CHECKING:
    from rich.progress import Progress

    from atelier.runtime.store import Destination
    from atelier.runtime.upscalers import Upscalers
    from atelier.runtime.upscaling import Upscaling
    from atelier.vision.upscaling import Tell, Upscaler

app = typer.Typer(add_completion=False)

Images = Annotated[
    list[Path] | None, typer.Argument(metavar="IMAGE...", help="Images, or folders of images.", show_default=False)
]
Named = Annotated[
    str | None,
    typer.Option(
        "--upscaler",
        help="Name of an upscaler (--list), or a file: .pth, .pt, .safetensors.",
        show_default="Lanczos",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="An upscaling model (x4), by name or path: it generates the image again, 4 times larger.",
        show_default="none",
        rich_help_panel=PANEL,
    ),
]
Prompt = Annotated[
    str | None, typer.Option(help="What the image shows.", show_default="nothing", rich_help_panel=PANEL)
]
Negative = Annotated[
    str | None,
    typer.Option("--negative", help="What it should not show.", show_default="nothing", rich_help_panel=PANEL),
]
NoiseLevel = Annotated[
    int | None,
    typer.Option(
        "--noise-level",
        help="Level of the noise added to the image, 0 to 350; more noise leaves more to the prompt.",
        show_default="20",
        rich_help_panel=PANEL,
    ),
]
Steps = Annotated[
    int | None, typer.Option(help="Steps of the sampler.", show_default="the model's", rich_help_panel=PANEL)
]
Seed = Annotated[int | None, typer.Option(help="Seed of the noise.", show_default="drawn", rich_help_panel=PANEL)]
CfgScale = Annotated[
    float | None,
    typer.Option(
        "--cfg-scale",
        help="How strongly to follow the prompt.",
        show_default="the model's",
        rich_help_panel=PANEL,
    ),
]
Second = Annotated[
    str | None, typer.Option("--upscaler-2", help="Another upscaler, blended with the first.", show_default="none")
]
Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--models-dir",
        help="A folder with models, searched for folders of upscalers; may be given several times.",
        show_default="those of ATELIER_MODELS, else ./models and the user's own",
    ),
]

UpscaleScale = Annotated[str | None, typer.Option(help="Factor or size: 2, 1.5, 1024x768.", show_default="2")]
Output = Annotated[str, typer.Option("--output", "--out", "-o", help="Folder or file to save to.")]
FileFormat = Annotated[
    str, typer.Option("--format", help="How images in a folder are written: png, jpg, webp or avif.")
]
Tile = Annotated[
    int | None,
    typer.Option(help="Largest side of a tile in pixels; smaller needs less memory.", show_default="the network's"),
]


@app.command("upscale")
def upscale(
    images: Images = None,
    *,
    upscaler: Named = None,
    scale: UpscaleScale = None,
    output: Output = "outputs/upscaled",
    file_format: FileFormat = "png",
    second: Second = None,
    visibility: Annotated[float, typer.Option("--visibility", help="Share of the second upscaler, 0 to 1.")] = 0.5,
    tile: Tile = None,
    models_dir: Folders = None,
    shows_list: Annotated[bool, typer.Option("--list", help="List the upscalers, and do nothing.")] = False,
    model: Model = None,
    prompt: Prompt = None,
    negative: Negative = None,
    noise_level: NoiseLevel = None,
    steps: Steps = None,
    seed: Seed = None,
    cfg_scale: CfgScale = None,
) -> None:
    """Make images larger. Each keeps how it was made, and says what was done to it."""
    from atelier import compose
    from atelier.runtime.store import Destination
    from atelier.runtime.upscaling import Scale, Upscaling

    by_model = ByModel(prompt, negative, noise_level, steps, seed, cfg_scale)
    if model is not None:
        by_model.check(upscaler=upscaler, second=second, scale=scale, file_format=file_format, folders=models_dir)
        _by_model(by_model, images or [], model, output, tile)
        return
    if by_model != ByModel():
        raise BadInput(NEEDS_MODEL)
    known = compose.upscalers(tuple(models_dir) if models_dir else None)
    if shows_list:
        typer.echo("\n".join(known.names()))
        return
    wanted = Scale.of(scale or "2")
    to = Destination.of(output, f".{file_format.lower().lstrip('.')}")
    paths = _paths(images or [], to)
    _run(paths, Upscaling(_named(known, upscaler or "Lanczos", second, tile, visibility), wanted), to)


def _by_model(by_model: ByModel, images: Sequence[Path], model: str, output: str, tile: int | None) -> None:
    from atelier.runtime.store import Destination

    paths = _paths(images, Destination.of(output))
    by_model.run(paths, model, output, tile, is_list=len(images) < len(paths) or len(paths) > 1)


def _named(known: Upscalers, first: str, second: str | None, tile: int | None, visibility: float) -> Upscaler:
    """The upscaler, mixed with a second one where one is named."""
    from atelier.runtime.threads import settle_process
    from atelier.runtime.upscaling import blended

    settle_process(os.environ)
    other = None if second is None else known.get(second, tile=tile)
    return blended(known.get(first, tile=tile), other, visibility)


def _paths(named: Sequence[Path], to: Destination) -> list[Path]:
    """All images, those of folders by name. Raises BadInput where there are none, or several for one file."""
    paths = list(_images(named))
    if not paths:
        raise BadInput("nothing to enlarge: atelier upscale IMAGE --scale 2")
    if to.file is not None and len(paths) > 1:
        raise BadInput(f"{to.folder / to.file}: it is one file for {len(paths)} images: name a folder")
    return paths


def _images(named: Sequence[Path]) -> Iterator[Path]:
    from atelier.runtime.source_images import SUFFIXES, images_in

    for path in (path.expanduser() for path in named):
        if not path.is_dir():
            yield path
            continue
        found = list(images_in(path))
        if not found:
            raise BadFile(path, f"holds no images ({', '.join(sorted(SUFFIXES))})")
        yield from found


def _run(paths: Sequence[Path], upscaling: Upscaling, to: Destination) -> None:
    """Of several, images that cannot be used are named and left out, and at the end it exits with 1; one alone is an
    error as anywhere. Raises StorageFull and Interrupted at once."""
    failed = 0
    with _bar() as bar:
        for number, path in enumerate(paths):
            try:
                saved = _made(path, upscaling, to, _telling(bar, number, len(paths)))
            except (StorageFull, Interrupted):
                raise
            except AtelierError as error:
                if len(paths) == 1:
                    raise
                failed += 1
                typer.echo(f"atelier: {error}", err=True)
            else:
                typer.echo(saved)
    if failed:
        typer.echo(f"atelier: {failed} of {len(paths)} images failed", err=True)
        raise typer.Exit(1)


def _made(path: Path, upscaling: Upscaling, to: Destination, tell: Tell) -> Path:
    from atelier.runtime.source_images import open_image
    from atelier.runtime.upscaling import check, save

    source = open_image(path)
    check(source, upscaling, to)
    to.prepare()
    return save(source, upscaling.image(source.image, tell), upscaling, to)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn())
    return Progress(
        *columns,
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        expand=True,
        disable=not console.is_terminal,
    )


def _telling(bar: Progress, number: int, count: int) -> Tell:
    """Shows one image of all: a new line of the bar replaces that of the image before."""
    for task in bar.task_ids:
        bar.remove_task(task)
    shown = bar.add_task("upscaling" if count == 1 else f"upscaling {number + 1} of {count}", total=None)
    return lambda done, total: bar.update(shown, completed=done, total=total)
