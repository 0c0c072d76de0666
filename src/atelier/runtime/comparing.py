"""Making a grid: its missing images one by one, then a labelled sheet for each value along z."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import BadInput
from atelier.request.events import (
    Event,
    Failed,
    Finished,
    ImageReady,
    Preview,
    Saved,
    SheetReady,
    SheetSaved,
    Started,
    Warned,
)
from atelier.request.grid.asked import draw_for
from atelier.request.grid.cells import Cell, Grid, Place, cells, legend, number_of, settled
from atelier.request.infotext import Settings, pixel_hash, write
from atelier.request.model import Request
from atelier.runtime.engine import Engine, GeneratedImage
from atelier.runtime.made import load, made
from atelier.runtime.several import several
from atelier.runtime.store import Destination, encoded
from atelier.runtime.store import write as write_file
from atelier.vision.labelled import MAX_PIXELS, Labels, labelled, page_pixels

if TYPE_CHECKING:
    from PIL.Image import Image

SHEET = re.compile(r"grid-(\d{5,})\.png")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A grid, made. images: along x, then down y, then z; sheets: one for each value along z."""

    images: tuple[GeneratedImage, ...]
    sheets: tuple[GeneratedImage, ...]


@dataclass(frozen=True, slots=True)
class _Planned:
    """cells: with the settings that each one's infotext says, in the order in which they are made; there: the files
    that are these images already."""

    grid: Grid
    cells: tuple[tuple[Cell, Settings], ...]
    there: dict[Settings, Path] = field(default_factory=dict[Settings, Path])

    def number(self, cell: Cell) -> int:
        return number_of(cell.place, self.grid.shape)


def compare(engine: Engine, grid: Grid) -> Comparison:
    """Makes a grid. Raises AtelierError."""
    images: dict[int, GeneratedImage] = {}
    sheets: list[GeneratedImage] = []
    with closing(events(engine, grid)) as happening:
        for event in happening:
            match event:
                case ImageReady(index, seed, image, infotext):
                    images[index] = GeneratedImage(image, seed, infotext)
                case SheetReady(_, image, infotext):
                    sheets.append(GeneratedImage(image, images[min(images)].seed, infotext))
                case Failed(error):
                    raise error
                case _:
                    pass
    return Comparison(tuple(images[number] for number in sorted(images)), tuple(sheets))


def events(engine: Engine, grid: Grid, *, previews: float | None = None) -> Generator[Event]:
    """Makes a grid as a stream of events; closing it stops between two steps, and what is saved stays.

    Images lie in the folder that the request's output names, sheets beside them as grid-00001.png. Images that lie
    there already are taken from there, so that the same grid, made again after it was stopped, goes on. Raises
    BadInput, at the call, where any cell cannot be generated.
    """
    planned = _planned(engine, settled(grid, draw_for(grid)))
    missing = [(cell, said) for cell, said in planned.cells if said not in planned.there]
    making = several(engine, [cell.request for cell, _ in missing], previews=previews)
    return _run(planned, [cell for cell, _ in missing], making)


def _planned(engine: Engine, grid: Grid) -> _Planned:
    all_cells = cells(grid)
    said = [engine.said(engine.resolve(cell.request))[0] for cell in all_cells]
    planned = _Planned(grid, tuple(zip(all_cells, said, strict=True)))
    folder = _folder(all_cells[0].request)
    if folder is None:
        return planned
    return replace(planned, there=made(folder, said) if folder.is_dir() else {})


def _folder(request: Request) -> Path | None:
    """Where images go. Raises BadInput for a file."""
    if request.output is None:
        return None
    destination = Destination.of(request.output)
    if destination.file is not None:
        raise BadInput(f"{request.output}: a grid makes several files; name a folder")
    return destination.folder


def _run(planned: _Planned, missing: Sequence[Cell], making: Generator[Event]) -> Generator[Event]:
    started, gathered = time.monotonic(), _Gathered(planned)
    with closing(making):
        for event in making:
            match event:
                case Started():
                    yield event
                    yield from _found(planned, gathered)
                case ImageReady(index, _, image, infotext):
                    gathered.take(missing[index], image, infotext)
                    yield replace(event, index=planned.number(missing[index]))
                case Preview(index) | Saved(index):
                    yield replace(event, index=planned.number(missing[index]))
                case Finished():
                    yield from _sheets(planned, gathered)
                    yield Finished(len(missing), time.monotonic() - started)
                case _:
                    yield event


def _found(planned: _Planned, gathered: _Gathered) -> Iterator[Event]:
    """The images that were there before."""
    there = [(cell, said) for cell, said in planned.cells if said in planned.there]
    if there:
        yield Warned(f"{len(there)} of {len(planned.cells)} images are there already")
    for cell, said in there:
        path = planned.there[said]
        image = load(path)
        infotext = write(replace(said, pixel_hash=pixel_hash(image)))
        gathered.take(cell, image, infotext)
        assert said.seed is not None
        yield ImageReady(planned.number(cell), said.seed, image, infotext)
        yield Saved(planned.number(cell), path)


class _Gathered:
    """The images of a grid, by place, as far as sheets are made of them."""

    def __init__(self, planned: _Planned) -> None:
        shape, sizes = planned.grid.shape, [said.size or (0, 0) for _, said in planned.cells]
        largest = max(width for width, _ in sizes), max(height for _, height in sizes)
        self.pixels = page_pixels(shape.x, shape.y, largest)
        self.images: dict[Place, Image] = {}

    @property
    def fits(self) -> bool:
        return self.pixels <= MAX_PIXELS

    def take(self, cell: Cell, image: Image, _: str) -> None:
        if self.fits:
            self.images[cell.place] = image


def _sheets(planned: _Planned, gathered: _Gathered) -> Iterator[Event]:
    if not gathered.fits:
        yield Warned(
            f"no sheet is made: it would have {gathered.pixels:,} pixels, at most {MAX_PIXELS:,} are put on one"
        )
        return
    grid, folder = planned.grid, _folder(planned.cells[0][0].request)
    by_place = {cell.place: said for cell, said in planned.cells}
    for z in range(grid.shape.z):
        here = {(at.x, at.y): image for at, image in gathered.images.items() if at.z == z}
        page = labelled(here, Labels(grid.x.labels, grid.y.labels, grid.z.labels[z]))
        said = legend(by_place[Place(0, 0, z)], grid)
        infotext = write(replace(said, pixel_hash=pixel_hash(page)))
        yield SheetReady(z, page, infotext)
        if folder is not None:
            yield SheetSaved(z, _save_sheet(folder, page, said, infotext))


def _save_sheet(folder: Path, page: Image, said: Settings, infotext: str) -> Path:
    """Under the next number, or where the same sheet lies already."""
    there = made(folder, [said]).get(said)
    if there is not None:
        return there
    numbers = [int(name[1]) for path in folder.glob("grid-*.png") if (name := SHEET.fullmatch(path.name))]
    path = folder / f"grid-{max(numbers, default=0) + 1:05d}.png"
    write_file(path, encoded(page, infotext))
    return path
