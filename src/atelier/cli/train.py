"""`atelier train RECIPE`: any kind of training, with progress, resumable at any moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.train.registry import Recipes, find, read, recipes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from atelier.request.events import Forecast, TrainingEvent
    from atelier.train.loop import Placement
    from atelier.train.recipe import Run

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="The name of a recipe, or a TOML file.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the run; an existing run is resumed.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Change a key: run.steps=100 (repeatable).")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
AcceptOption = Annotated[
    bool, typer.Option("--accept-changes", help="Resume even if the recipe or the training images have changed.")
]

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal to draw a bar in."""


def application(known: Recipes) -> typer.Typer:
    """The command that runs the recipes of `known`."""
    app = typer.Typer(help="Train a model.")

    @app.command("train", help=_help(known))
    def train(
        recipe: RecipeArgument,
        out: OutOption,
        change: SetOption = None,
        device: DeviceOption = "auto",
        accept_changes: AcceptOption = False,
    ) -> None:
        spec = find(recipe, known)
        chosen = read(recipe, spec, changes(change))

        from rich.console import Console

        from atelier.train.runner import run_recipe

        with placed(device, chosen.run) as placement:
            told = placement.world.first
            console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, quiet=not told)
            say_what_is_missing(console)
            with stopping(console) as signals:
                events = run_recipe(spec, chosen, placement, out, signals, accept_changes=accept_changes)
                made = follow(events, chosen.run.steps, console)
        if told and made is not None:
            typer.echo(made)

    return app


def _help(known: Recipes) -> str:
    lines = (f"{spec.name}: {spec.help}." for spec in known.values())
    return "\n\n".join(
        ("Train what a recipe says. A model from nothing takes vae, clip and denoiser, in this order.", *lines)
    )


def changes(pairs: list[str] | None) -> dict[str, object]:
    """ "run.steps=100" -> {"run.steps": 100}; values are TOML, bare words are text. Raises BadInput."""
    import tomllib

    from atelier.errors import BadInput

    table: dict[str, object] = {}
    for pair in pairs or ():
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not all(key.split(".")):
            raise BadInput(f"--set {pair!r}: write KEY=VALUE, such as run.steps=100")
        try:
            found = tomllib.loads(f"value = {value}")
        except (ValueError, RecursionError):
            found = {"value": value}
        table[key] = found["value"] if len(found) == 1 else value
    return table


@contextmanager
def placed(device: str, run: Run) -> Generator[Placement]:
    """Where this process trains: under torchrun, one of several, each on a device of its own."""
    from atelier.runtime.device import choose_device, free_memory, training_dtype
    from atelier.runtime.threads import settle_process
    from atelier.train.loop import Placement
    from atelier.train.world import joined, own_device

    settle_process(os.environ, run.threads, leave_busy_cores=False)
    chosen = own_device(choose_device(device))
    with joined(chosen) as world:
        yield Placement(chosen, training_dtype(chosen, run.dtype), world, free_memory(chosen))


def say_what_is_missing(console: Console) -> None:
    from atelier.train.logbook import missing_extras

    missing = missing_extras()
    if missing:
        console.print(f"{' and '.join(missing)} not installed: the log has the numbers; pip install 'atelier[train]'")


@contextmanager
def stopping(console: Console) -> Generator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came; the second one ends the program at once."""
    signals: list[int] = []

    def ask(number: int, _: object) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)
        console.print("stopping after this step; once more stops at once, without a checkpoint")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(signals)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow(events: Iterator[TrainingEvent], steps: int, console: Console) -> Path | None:
    """Shows what happens; returns where what was made lies. Raises Failed's error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from atelier.cli.progress import Rate

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, speed_estimate_period=120, disable=not console.is_terminal) as bar:
        view = _View(bar, console, bar.add_task("waiting for data", total=steps), steps)
        for event in events:
            view.show(event)
    return view.path


class _View:
    """The bar, lines above it, and lines instead of it where there is no terminal."""

    def __init__(self, bar: Progress, console: Console, task: TaskID, steps: int) -> None:
        self.bar, self.console, self.task, self.steps = bar, console, task, steps
        self.step, self.first = 0, 0
        self.path: Path | None = None
        self.started = self.told = time.monotonic()

    def show(self, event: TrainingEvent) -> None:
        from atelier.request.events import (
            CheckpointSaved,
            ClassImageSaved,
            Exported,
            Failed,
            Finished,
            MemoryForecast,
            Resumed,
            Stepped,
            TimeForecast,
            Validated,
        )

        match event:
            case ClassImageSaved(done, total, path):
                self._class_image(done, total, path)
            case MemoryForecast() | TimeForecast():
                self.console.print(_forecast(event))
            case Resumed(step, path, passed_over):
                self._resumed(step, path, passed_over)
            case Stepped(step, _, losses):
                self.step = step
                self.bar.update(self.task, completed=step, description=f"loss {losses['loss']:.4f}")
                self._line(losses["loss"])
            case Validated(step, numbers):
                shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name != "seconds")
                self.console.print(f"step {step}: {shown}")
            case CheckpointSaved(_, path):
                self.console.print(f"saved {path}")
            case Exported(path):
                self.path = path
            case Finished():
                pass
            case Failed(error):
                raise error

    def _class_image(self, done: int, total: int, path: Path) -> None:
        """On the bar, or as a line for the last and every so many seconds."""
        self.bar.update(self.task, description=f"image {done}/{total} of the class")
        now = time.monotonic()
        if done == total or not (self.console.is_terminal or now - self.told < LINE_EVERY):
            self.told = now
            self.console.print(f"{done}/{total} images of the class in {path.parent}")

    def _resumed(self, step: int, path: Path, passed_over: tuple[Path, ...]) -> None:
        for damaged in passed_over:
            self.console.print(f"{damaged} is damaged: passed over")
        self.console.print(f"going on from step {step} ({path})" if step < self.steps else f"finished before ({path})")
        self.step = self.first = step
        self.bar.reset(self.task, completed=step, total=self.steps)

    def _line(self, loss: float) -> None:
        now = time.monotonic()
        if self.console.is_terminal or (now - self.told < LINE_EVERY and self.step < self.steps):
            return
        self.told = now
        self.console.print(_progress(self.step, self.first, self.steps, now - self.started, loss))


def _progress(step: int, first: int, steps: int, seconds: float, loss: float) -> str:
    """A line of a log: how far, how fast, how long still."""
    from atelier.cli.progress import rate

    speed = (step - first) / max(seconds, 1e-9)
    return f"step {step}/{steps}  {rate(speed)}  {_clock((steps - step) / speed)} left  loss {loss:.4f}"


def _clock(seconds: float) -> str:
    from datetime import timedelta

    return str(timedelta(seconds=round(seconds)))


def _forecast(event: Forecast) -> str:
    """A line: "forecast: 1.3 GB of memory, of 17.0 free (weights 0.4, …)"; or of time."""
    from atelier.request.events import TimeForecast

    if isinstance(event, TimeForecast):
        return f"forecast: {_clock(event.seconds)} for the {event.steps} steps that are left"
    named = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in event.parts.items())
    known = "" if event.free is None else f", of {event.free / 1e9:.1f} free"
    return f"forecast: {event.total / 1e9:.1f} GB of memory{known} ({named})"


app = application(recipes())
