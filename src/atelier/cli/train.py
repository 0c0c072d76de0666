"""`atelier train vae | clip | denoiser`: training from nothing, with progress, resumable at any moment."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from atelier.train.loop import Event, Machine, Task
    from atelier.train.recipe import Optim, Run

app = typer.Typer(help="Train a latent diffusion model from nothing: first vae, then clip, then denoiser.")

RecipeOption = Annotated[str, typer.Option(help="A TOML file, or the name of an embedded recipe.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the run; a run found there is resumed.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Change a number: run.steps=100 (repeatable).")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


@app.command()
def vae(
    out: OutOption,
    recipe: RecipeOption = "vae",
    change: SetOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train the autoencoder between pictures and latents."""
    from atelier.train.recipe import VaeRecipe, read
    from atelier.train.runs import export_vae
    from atelier.train.tasks.vae import VaeTask

    chosen = read(recipe, VaeRecipe, changes(change))
    task = VaeTask(chosen, _machine(device, chosen.run))
    _run(task, chosen.run, chosen.optim, out)
    typer.echo(f"autoencoder written to {export_vae(out, chosen)}")


@app.command()
def clip(
    out: OutOption,
    recipe: RecipeOption = "clip",
    change: SetOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train CLIP's text and vision towers and their vocabulary."""
    from atelier.train.recipe import ClipRecipe, read
    from atelier.train.runs import export_clip
    from atelier.train.tasks.clip import ClipTask

    chosen = read(recipe, ClipRecipe, changes(change))
    task = ClipTask(chosen, _machine(device, chosen.run), out)
    _run(task, chosen.run, chosen.optim, out)
    typer.echo(f"text and vision towers written to {export_clip(out, chosen)}")


@app.command()
def denoiser(
    out: OutOption,
    recipe: RecipeOption = "denoiser",
    vae: Annotated[Path | None, typer.Option(help="Run folder of the autoencoder (else the recipe's).")] = None,
    clip: Annotated[Path | None, typer.Option(help="Run folder of CLIP (else the recipe's).")] = None,
    change: SetOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train the U-Net on latents, and write the whole model as a diffusers folder."""
    from atelier.train.recipe import DenoiserRecipe, read
    from atelier.train.runs import export_model, frozen
    from atelier.train.tasks.denoiser import DenoiserTask

    table = changes(change)
    table.update({name: str(path) for name, path in (("vae", vae), ("clip", clip)) if path is not None})
    chosen = read(recipe, DenoiserRecipe, table)
    parts = frozen(Path(chosen.vae), Path(chosen.clip))
    task = DenoiserTask(chosen, _machine(device, chosen.run), parts, out / "latents")
    _run(task, chosen.run, chosen.optim, out)
    typer.echo(f"model written to {export_model(out, chosen)}")


def changes(pairs: list[str] | None) -> dict[str, Any]:
    """ "run.steps=100" -> {"run.steps": 100}; values are TOML, bare words are text. Raises BadInput."""
    import tomllib

    from atelier.errors import BadInput

    table: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise BadInput(f"--set {pair!r}: write KEY=VALUE, such as run.steps=100")
        try:
            table[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            table[key.strip()] = value
    return table


def _machine(device: str, run: Run) -> Machine:
    import torch

    from atelier.runtime.device import choose_device, training_dtype
    from atelier.train.loop import Machine

    if run.threads:
        torch.set_num_threads(run.threads)
    chosen = choose_device(device)
    return Machine(chosen, training_dtype(chosen, run.dtype))


def _run(task: Task, run: Run, optim: Optim, out: Path) -> None:
    """Trains with a progress bar. The first SIGINT or SIGTERM saves a checkpoint and ends the run."""
    from atelier.errors import Interrupted
    from atelier.train.loop import train

    asked: list[int] = []
    before = {s: signal.signal(s, lambda number, _: asked.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        _show(train(task, run, optim, out, stop=lambda: bool(asked)), run.steps)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:
        raise Interrupted(f"stopped; the same command goes on from the checkpoint in {out / 'checkpoints'}")


def _show(events: Iterator[Event], steps: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from atelier.train.loop import Resumed, Saved, Stepped, Validated

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}")) as bar:
        shown = bar.add_task("", total=steps, rate="", note="")
        for event in events:
            match event:
                case Stepped(step, _, losses):
                    speed = bar.tasks[0].speed
                    rate = f"{speed:.2f} steps/s" if speed else ""
                    bar.update(shown, completed=step, rate=rate, note=f"loss {losses['loss']:.4f}")
                case Validated(step, numbers):
                    shown_numbers = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
                    bar.console.print(f"step {step}: {shown_numbers}")
                case Saved(_, path):
                    bar.console.print(f"saved {path}")
                case Resumed(step, path):
                    bar.console.print(f"going on from step {step} ({path})")
                    bar.update(shown, completed=step)
