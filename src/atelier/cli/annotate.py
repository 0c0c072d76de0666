"""`atelier annotate`: the hints that models are steered by, drawn of images."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from atelier.errors import BadInput, shortened

if TYPE_CHECKING:
    from PIL.Image import Image

    from atelier.runtime.store import Destination
    from atelier.vision.annotating import Annotator
    from atelier.vision.upscaling import Size

app = typer.Typer(add_completion=False)

POSES = frozenset({"openpose", "pose"})
"""What the drawing of keypoints is called, where an image is one of JSON."""

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Name of an annotator (--list).", show_default=False)]
Image_ = Annotated[
    Path | None,
    typer.Argument(metavar="IMAGE", help="Image; or keypoints (.json), which openpose draws.", show_default=False),
]
Output = Annotated[str, typer.Option("--output", "--out", "-o", help="Folder or file to save to.")]
Resolution = Annotated[
    int | None,
    typer.Option(help="Resize the short side to this many pixels first, 64 to 2048.", show_default="as the image is"),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", help="An option of the annotator, such as low=50; may be repeated.", show_default="none"),
]
File = Annotated[
    Path | None,
    typer.Option(help="File of the annotator's network.", show_default="that in the folders of models"),
]


@app.command("annotate")
def annotate(
    name: Name = None,
    image: Image_ = None,
    *,
    output: Output = "outputs/hints",
    resolution: Resolution = None,
    options: Options = None,
    size: Annotated[
        str | None, typer.Option(help="Resize the hint to this size: 768x512.", show_default="as it is drawn")
    ] = None,
    resize_mode: Annotated[
        Literal["stretch", "crop", "fill"], typer.Option(help="How the hint is fitted to --size.")
    ] = "crop",
    seed: Annotated[int, typer.Option(min=0, help="Seed for random annotators (shuffle).")] = 0,
    file: File = None,
    shows_list: Annotated[bool, typer.Option("--list", help="List the annotators, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Draw a hint from an image, to steer a model with: edges, lines, depth, a pose."""
    from atelier.runtime.store import Destination

    if shows_list:
        typer.echo(_listed(as_json=as_json))
        return
    if name is None or image is None:
        raise BadInput("nothing to draw: atelier annotate canny IMAGE; atelier annotate --list shows what there is")
    wanted = None if size is None else _size(size)
    to = Destination.of(output)
    if image.suffix.lower() == ".json":
        hints = list(_poses(name, image))
    else:
        hints = [_hint(name, image, resolution, _numbers(options or []), seed, file)]
    saved = [_saved(_sized(hint, wanted, resize_mode), f"{image.stem}-{name}", to, len(hints)) for hint in hints]
    typer.echo(json.dumps([str(path) for path in saved]) if as_json else "\n".join(map(str, saved)))


def _hint(
    name: str, path: Path, resolution: int | None, options: dict[str, float], seed: int, file: Path | None
) -> Image:
    from atelier import compose
    from atelier.runtime.source_images import open_image
    from atelier.runtime.threads import settle_process

    settle_process(os.environ)
    ready = compose.annotator(name, file=file)
    return ready.hint(open_image(path).image, resolution=resolution, options=options, seed=seed)


def _poses(name: str, path: Path) -> Iterator[Image]:
    """Each pose of a file of keypoints. Raises BadFile and BadInput."""
    from atelier.runtime.source_images import read_bytes
    from atelier.vision.pose import drawn, read_poses

    if name.casefold() not in POSES:
        raise BadInput(f"{path}: keypoints are drawn by openpose: atelier annotate openpose {path}")
    yield from map(drawn, read_poses(read_bytes(path).decode("utf-8", "replace")))


def _numbers(given: list[str]) -> dict[str, float]:
    """Raises BadInput for what is not written as name=number."""
    numbers: dict[str, float] = {}
    for each in given:
        name, _, value = each.partition("=")
        try:
            numbers[name.strip()] = float(value)
        except ValueError as error:
            raise BadInput(f"--option {shortened(each)}: write it as in low=50") from error
    return numbers


def _size(text: str) -> Size:
    from atelier.runtime.upscaling import Scale
    from atelier.vision.annotate import MOST_PIXELS

    wanted: Size | None = None
    with suppress(BadInput):  # it would name a scale
        wanted = Scale.of(text).to
    if wanted is None or wanted[0] * wanted[1] > MOST_PIXELS:
        raise BadInput(f"--size {shortened(text)}: write it as in 768x512, at most {MOST_PIXELS:,} pixels")
    return wanted


def _sized(hint: Image, size: Size | None, how: Literal["stretch", "crop", "fill"]) -> Image:
    from atelier.vision.hints import fitted

    return hint if size is None else fitted(hint, *size, how)


def _saved(hint: Image, stem: str, to: Destination, count: int) -> Path:
    """Of several, the first takes the name of a file, and the others a number behind it."""
    from atelier.runtime.store import encoded
    from atelier.runtime.store import write as write_file
    from atelier.runtime.upscaling import write_beside

    to.prepare()
    data = encoded(hint, "", to.suffix, carried={})
    if to.file is None or count > 1:
        return write_beside(to.folder, stem if to.file is None else Path(to.file).stem, to.suffix, data)
    path = to.folder / to.file
    write_file(path, data)
    return path


def _listed(*, as_json: bool) -> str:
    from atelier.vision.annotate import annotators

    found = [_told(each) for each in annotators().values()]
    if as_json:
        return json.dumps(found)
    width = max(len(str(each["name"])) for each in found)
    return "\n".join(f"{each['name']:{width}}  {each['help']}{_needs(each)}" for each in found)


def _told(spec: Annotator) -> dict[str, object]:
    from atelier.vision.annotating import NeedsFile

    options = [{"name": o.name, "default": o.default, "low": o.low, "high": o.high} for o in spec.options]
    files = list(spec.draw.files) if isinstance(spec.draw, NeedsFile) else []
    return {"name": spec.name, "help": spec.help, "aliases": spec.aliases, "options": options, "files": files}


def _needs(told: dict[str, object]) -> str:
    files = told["files"]
    return f" Needs {files[0]}." if isinstance(files, list) and files else ""
