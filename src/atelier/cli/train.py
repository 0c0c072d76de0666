"""`atelier train vae | clip | denoiser`: training from nothing, with progress, resumable at any moment."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from atelier.train.loop import Event, Placement, Task
    from atelier.train.recipe import Recipe, Run

app = typer.Typer(help="Train a latent diffusion model from nothing: first vae, then clip, then denoiser.")

RecipeOption = Annotated[str, typer.Option(help="A TOML file, or the name of an embedded recipe.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the run; a run found there goes on.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Change a number: run.steps=100 (repeatable).")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
AcceptOption = Annotated[
    bool, typer.Option("--accept-changes", help="Go on although the recipe or the pictures have changed.")
]

LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal to draw a bar in."""


@app.command()
def vae(
    out: OutOption,
    recipe: RecipeOption = "vae",
    change: SetOption = None,
    device: DeviceOption = "auto",
    accept_changes: AcceptOption = False,
) -> None:
    """Train the autoencoder between pictures and latents."""
    from atelier.train.recipe import VaeRecipe, read
    from atelier.train.runs import export_vae
    from atelier.train.tasks.vae import VaeTask

    chosen = read(recipe, VaeRecipe, changes(change))

    def build(placement: Placement) -> VaeTask:
        return VaeTask(chosen, placement)

    _run(chosen, build, lambda: export_vae(out, chosen), out, device, accept_changes=accept_changes)


@app.command()
def clip(
    out: OutOption,
    recipe: RecipeOption = "clip",
    change: SetOption = None,
    device: DeviceOption = "auto",
    accept_changes: AcceptOption = False,
) -> None:
    """Train CLIP's text and vision towers and their vocabulary."""
    from atelier.train.recipe import ClipRecipe, read
    from atelier.train.runs import export_clip
    from atelier.train.tasks.clip import ClipTask

    chosen = read(recipe, ClipRecipe, changes(change))

    def build(placement: Placement) -> ClipTask:
        return ClipTask(chosen, placement, out)

    _run(chosen, build, lambda: export_clip(out, chosen), out, device, accept_changes=accept_changes)


@app.command()
def denoiser(
    out: OutOption,
    recipe: RecipeOption = "denoiser",
    vae: Annotated[Path | None, typer.Option(help="Run folder of the autoencoder (else the recipe's).")] = None,
    clip: Annotated[Path | None, typer.Option(help="Run folder of CLIP (else the recipe's).")] = None,
    change: SetOption = None,
    device: DeviceOption = "auto",
    accept_changes: AcceptOption = False,
) -> None:
    """Train the U-Net on latents, and write the whole model as a diffusers folder."""
    from atelier.train.folder import LATENTS
    from atelier.train.recipe import DenoiserRecipe, read
    from atelier.train.runs import export_model, frozen
    from atelier.train.tasks.denoiser import DenoiserTask

    given = {name: str(path) for name, path in (("vae", vae), ("clip", clip)) if path is not None}
    chosen = read(recipe, DenoiserRecipe, {**changes(change), **given})
    parts = frozen(Path(chosen.vae), Path(chosen.clip))

    def build(placement: Placement) -> DenoiserTask:
        return DenoiserTask(chosen, placement, parts, out / LATENTS)

    _run(chosen, build, lambda: export_model(out, chosen), out, device, accept_changes=accept_changes)


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
            table[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[key] = value
    return table


def _run(
    recipe: Recipe,
    build: Callable[[Placement], Task[Any]],
    export: Callable[[], Path],
    out: Path,
    device: str,
    *,
    accept_changes: bool,
) -> None:
    """Trains, shows how it goes, and writes what was learned. Raises Interrupted when it was asked to stop."""
    from rich.console import Console

    from atelier.errors import Interrupted
    from atelier.train.folder import claimed
    from atelier.train.loop import train

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    placement = _machine(device, recipe.run)
    with claimed(out, recipe, accept_changes=accept_changes):
        _say_what_is_missing(console)
        task = build(placement)
        with _asked_to_stop(console) as asked:
            events = train(task, recipe.run, recipe.optim, out, stop=asked, accept_changes=accept_changes)
            last = _follow(events, recipe.run.steps, console)
        if last < recipe.run.steps:
            raise Interrupted(f"stopped at step {last}; the same command goes on from there")
        typer.echo(str(export()))


def _machine(device: str, run: Run) -> Placement:
    import torch

    from atelier.runtime.device import choose_device, training_dtype
    from atelier.runtime.heap import settle_heap
    from atelier.runtime.threads import use_granted_cores
    from atelier.train.loop import Placement

    settle_heap()
    if run.threads:
        torch.set_num_threads(run.threads)
    else:
        use_granted_cores()
    chosen = choose_device(device)
    return Placement(chosen, training_dtype(chosen, run.dtype))


def _say_what_is_missing(console: Console) -> None:
    from atelier.train.logbook import missing_extras

    missing = missing_extras()
    if missing:
        console.print(f"{' and '.join(missing)} not installed: the log has the numbers; pip install 'atelier[train]'")


@contextmanager
def _asked_to_stop(console: Console) -> Generator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came; the second one ends the program at once."""
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        console.print("stopping after this step; once more stops at once, without a checkpoint")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _follow(events: Iterator[Event], steps: int, console: Console) -> int:
    """Shows what happens; returns the last step that was made."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from atelier.cli.progress import Rate

    columns = (BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, speed_estimate_period=120, disable=not console.is_terminal) as bar:
        view = _View(bar, console, bar.add_task("waiting for data", total=steps), steps)
        for event in events:
            view.show(event)
    return view.step


class _View:
    """The bar, lines above it, and lines instead of it where there is no terminal."""

    def __init__(self, bar: Progress, console: Console, task: TaskID, steps: int) -> None:
        self.bar, self.console, self.task, self.steps = bar, console, task, steps
        self.step, self.first = 0, 0
        self.started = self.told = time.monotonic()

    def show(self, event: Event) -> None:
        from atelier.train.loop import Resumed, Saved, Stepped, Validated

        match event:
            case Resumed(step, path, passed_over):
                self._resumed(step, path, passed_over)
            case Stepped(step, _, losses):
                self.step = step
                self.bar.update(self.task, completed=step, description=f"loss {losses['loss']:.4f}")
                self._line(losses["loss"])
            case Validated(step, numbers):
                shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if name != "seconds")
                self.console.print(f"step {step}: {shown}")
            case Saved(_, path):
                self.console.print(f"saved {path}")

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
    from datetime import timedelta

    from atelier.cli.progress import rate

    speed = (step - first) / max(seconds, 1e-9)
    left = timedelta(seconds=round((steps - step) / speed))
    return f"step {step}/{steps}  {rate(speed)}  {left} left  loss {loss:.4f}"
