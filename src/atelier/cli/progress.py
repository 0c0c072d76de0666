"""What a run looks like in a terminal: one line with rate and time left, and the growing image above it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from atelier.cli import preview as terminal
from atelier.errors import BadInput
from atelier.request.events import (
    Event,
    Failed,
    Finished,
    Hashing,
    ImageReady,
    Loading,
    Preview,
    Saved,
    SheetSaved,
    Started,
    Warned,
)
from atelier.request.events import Progress as Progressed

if TYPE_CHECKING:
    from PIL.Image import Image

ROWS = 16


def display(*, preview: bool | None) -> Display:
    """A display on stderr. preview: None shows images where the terminal has its own way to; True elsewhere draws
    with half blocks, and raises BadInput where there is no 24-bit colour."""
    console = Console(stderr=True)
    if preview is False or not console.is_terminal:
        return Display(console, None)
    draw = terminal.native(os.environ)
    if draw is None and preview:
        if console.color_system != "truecolor":
            raise BadInput("--preview: this terminal shows no 24-bit colour (COLORTERM=truecolor says that it does)")
        draw = terminal.half_blocks
    return Display(console, draw)


@dataclass(frozen=True, slots=True)
class Display:
    """Shows events in `console`; the bar and the images only where that is a terminal."""

    console: Console
    draw: terminal.Draw | None

    def follow(self, events: Iterable[Event]) -> list[ImageReady]:
        """Shows what happens, then prints to stdout where the images lie; returns them. Raises Failed's error."""
        saved: list[Path] = []
        ready: list[ImageReady] = []
        try:
            with self._bar() as bar:
                view = _View(bar, _Frame(self.console, self.draw), saved)
                for event in events:
                    view.show(event)
                    if isinstance(event, ImageReady):
                        ready.append(event)
            self.console.print(view.summary, highlight=False)
        finally:
            for path in saved:
                typer.echo(path)
        return ready

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            Rate(),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
            disable=not self.console.is_terminal,
        )


class Rate(ProgressColumn):
    """Steps per second, or seconds per step where a step takes long."""

    def render(self, task: Task) -> Text:
        return Text(rate(task.speed) if task.speed else "", style="progress.data.speed")


def rate(speed: float) -> str:
    """Steps per second as text."""
    return f"{speed:.1f} step/s" if speed >= 1 else f"{1 / speed:.1f} s/step"


ROLES = {"text": "text encoder"}
"""What people call the networks of a model, where that is not the role's name."""


class _View:
    """The bar, the frame above it, and what was saved so far."""

    def __init__(self, bar: Progress, frame: _Frame, saved: list[Path]) -> None:
        self.bar, self.frame, self.saved = bar, frame, saved
        self.images = 0
        self.summary = ""
        self.task = bar.add_task("loading", total=None)
        bar.refresh()

    def show(self, event: Event) -> None:
        match event:
            case Warned(message):
                # a prompt in it is shown as it is: <lora:a:1> holds no emoji
                self.bar.console.print(f"note: {message}", highlight=False, markup=False, emoji=False, soft_wrap=True)
            case Started(images, steps):
                self.images = images
                self.bar.update(self.task, total=steps, refresh=True)
            case Hashing(model):
                self.bar.update(self.task, description=f"hashing {model}", refresh=True)
            case Loading(_, part):
                self.bar.update(self.task, description=f"loading {ROLES.get(part, part)}", refresh=True)
            case Progressed(done, total, index):
                self.bar.update(self.task, description=self._doing(index), completed=done, total=total, refresh=True)
            case Preview(_, image) | ImageReady(image=image):
                self.frame.show(image)
            case Saved(_, path) | SheetSaved(_, path):
                self.saved.append(path)
            case Finished(count, seconds):
                self.summary = f"{_counted(count)} in {seconds:.1f} s"
            case Failed(error):
                raise error
            case _:  # a training's events have a view of their own
                pass

    def _doing(self, index: int) -> str:
        return "generating" if self.images == 1 else f"generating {index + 1} of {self.images}"


def _counted(images: int) -> str:
    return "1 image" if images == 1 else f"{images} images"


@dataclass(slots=True)
class _Frame:
    """A place of fixed size above the bar, made when the first image comes, where each replaces the one before."""

    console: Console
    draw: terminal.Draw | None
    size: tuple[int, int] | None = field(default=None)

    def show(self, image: Image) -> None:
        if self.draw is None:
            return
        if self.size is None:
            self.size = fitted(image.width / image.height, self.console.width, self.console.height - 2)
            self.console.print("\n" * (self.size[1] - 1))
        columns, rows = self.size
        self.console.file.write(f"\x1b7\r\x1b[{rows}A{self.draw(image, columns, rows)}\x1b8")
        self.console.file.flush()


def fitted(aspect: float, columns: int, rows: int) -> tuple[int, int]:
    """The largest (columns, rows) within those and ROWS for an image of that width / height; cells are 1:2."""
    high = max(1, min(rows, ROWS, int(columns / (2 * aspect))))
    return max(1, min(columns, round(2 * aspect * high))), high
