"""`atelier generate` from every image of a folder, and again from what was generated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import cos, pi, sin
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import typer

from atelier.errors import BadFile, BadInput
from atelier.request.events import Event, Saved
from atelier.request.resolve import ALL_SEEDS, STRENGTH, TRANSPARENT

if TYPE_CHECKING:
    from atelier.vision.geometry import Resize

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"})
Fields = dict[str, object]
_RESIZES: Mapping[str, Resize] = MappingProxyType({"crop": "crop", "fill": "fill"})
"""How a mask comes to another size with its image, where it is not stretched."""


def is_folder(fields: Mapping[str, object]) -> bool:
    """Whether the image to start from is a folder of them."""
    return _folder(fields.get("image")) is not None


def _folder(said: object) -> Path | None:
    """The folder that a field names, None if it names none. An empty name is nothing, and not the current folder."""
    if not isinstance(said, str) or not said.strip() or said.startswith("data:"):
        return None
    path = Path(said).expanduser()
    return path if path.is_dir() else None


def folder_runs(fields: Mapping[str, object]) -> Iterator[Fields]:
    """The fields of each run of a folder, in the order of the names; a folder of masks has one for each image, of the
    same name but for the suffix. Files that are no images by their names, and hidden ones, are passed over.

    Raises BadInput for a folder without images.
    """
    folder = Path(str(fields["image"])).expanduser()
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not found:
        raise BadInput(f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))})")
    for path in found:
        yield {**fields, "image": str(path), **_mask(fields.get("mask"), path)}


def check_output(fields: Fields) -> None:
    """Raises BadInput for the name of one file, which each of several images would replace."""
    from atelier.runtime.store import Destination

    output = fields.get("output")
    if isinstance(output, str) and Destination.of(output).file is not None:
        raise BadInput(f"--output {output}: is one file, which each image would replace: name a folder")


def _mask(mask: object, image: Path) -> Fields:
    folder = _folder(mask)
    if folder is None:
        return {} if mask is None else {"mask": mask}
    own = (path for path in sorted(folder.iterdir()) if path.stem == image.stem and path.suffix.lower() in SUFFIXES)
    return {"mask": str(next(own, folder / image.name))}


def each(runs: Iterable[Fields], generate: Callable[[Fields], object]) -> None:
    """Generates every run. One whose image or mask cannot be used is told, and the others are generated.

    Raises typer.Exit with 1 at the end where some failed.
    """
    failed = total = 0
    for fields in runs:
        total += 1
        try:
            generate(fields)
        except BadInput as error:
            if not _is_about(error, fields):
                raise
            failed += 1
            typer.echo(f"atelier: {error}", err=True)
    if failed:
        typer.echo(f"atelier: {failed} of {total} images failed", err=True)
        raise typer.Exit(1)


def _is_about(error: BadInput, fields: Fields) -> bool:
    """Whether another image could do where this one fails."""
    own = [str(fields[name]) for name in ("image", "mask") if fields.get(name)]
    return error.path in own if isinstance(error, BadFile) else any(path in str(error) for path in own)


class Curve(StrEnum):
    """How the strength goes from the first loop to the last, in A1111's words."""

    AGGRESSIVE = "Aggressive"
    LINEAR = "Linear"
    LAZY = "Lazy"

    def at(self, share: float) -> float:
        """How much of the way is gone after a share of the loops, both 0 to 1."""
        match self:
            case Curve.AGGRESSIVE:
                return sin(share * pi / 2)
            case Curve.LAZY:
                return 1 - cos(share * pi / 2)
            case Curve.LINEAR:
                return share


@dataclass(frozen=True, slots=True)
class Strengths:
    """The strength of each loop: from that of the request to `last`, None for the same in all."""

    last: float | None = None
    curve: Curve = Curve.LINEAR

    def of(self, loop: int, loops: int, first: object) -> Fields:
        """What changes for a loop, counted from 0: A1111's arithmetic (docs/compatibility/img2img.md)."""
        if self.last is None:
            return {}
        begin = STRENGTH if first is None else float(str(first))
        gone = 0.0 if loops == 1 else self.curve.at(loop / (loops - 1))
        return {"denoising_strength": begin + (self.last - begin) * gone}


def again(fields: Fields, loops: int, generate: Callable[[Fields], Iterable[Path]], strengths: Strengths) -> None:
    """Generates `loops` times: each time from the image that came before, with the next seed. A mask stays where it is,
    and what is under it is filled in the first loop alone, as in A1111.

    Raises BadInput where there is not one image to go on from.
    """
    count = int(str(fields.get("batch_size", 1))) * int(str(fields.get("batch_count", 1)))
    if count != 1:
        raise BadInput(f"--loops follows one image, and {count} are asked for")
    if "image" not in fields:
        raise BadInput("--loops needs an image to start from: give --image")
    first = fields.get("denoising_strength")
    for loop in range(loops):
        (path,) = generate(fields | strengths.of(loop, loops, first))
        fields = {**fields, "image": str(path)} | _next_seed(path) | _next_mask(fields, path)


def _next_mask(fields: Fields, made: Path) -> Fields:
    """The mask for what was made of an image: of its size, and a file where it was what the image showed through."""
    from atelier.request.pictures import data_uri
    from atelier.runtime.images import read_reference, reference_to
    from atelier.vision.geometry import resized
    from atelier.vision.masks import mask_of, transparent_in

    if "mask" not in fields:
        return {}
    name, how = str(fields["mask"]), _RESIZES.get(str(fields.get("resize_mode")), "stretch")
    own = read_reference(reference_to(str(fields["image"]) if name == TRANSPARENT else name))
    mask = transparent_in(own) if name == TRANSPARENT else mask_of(own, soft=bool(fields.get("soft_inpainting")))
    fitting = resized(mask, *read_reference(reference_to(str(made))).size, how)
    return {"mask": data_uri(fitting), "masked_content": "original"}


def _next_seed(made: Path) -> Fields:
    """The seed behind that of an image, wherever that came from: drawn, said, or read with `--from`."""
    from atelier.request.infotext import interpret
    from atelier.request.infotext.image import read_image

    found = read_image(made.read_bytes())
    seed = None if found is None else interpret(found).settings.seed
    return {} if seed is None else {"seed": (seed + 1) % ALL_SEEDS}


def noting(events: Iterable[Event], saved: list[Path]) -> Iterator[Event]:
    """The same events; where images were saved goes into `saved`."""
    for event in events:
        if isinstance(event, Saved):
            saved.append(event.path)
        yield event
