"""`atelier evaluate`: how good a model of emoji scenes is, in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from atelier.families.checkpoint import Checkpoint
    from atelier.runtime.studio import Studio
    from atelier.train.evaluate import Outcome, Paint, Trial

app = typer.Typer(help="Measure the quality of a model.")


@app.command()
def evaluate(
    model: Annotated[str | None, typer.Option(help="Name or path; the embedded model if not given.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each picture.")] = 30,
    limit: Annotated[int, typer.Option(min=0, help="At most so many pictures of each kind; 0 = all.")] = 0,
    sheets: Annotated[Path | None, typer.Option(help="Folder for sheets of the pictures that were judged.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Paints every concept large and small and held-out pairs, and lets an independent judge look at them."""
    import json

    from atelier.compose import studio as make_studio
    from atelier.families.checkpoint import open_checkpoint
    from atelier.train import evaluate as measures

    studio = make_studio()
    found = studio.library.find(model)
    checkpoint = open_checkpoint(found.path)
    paint = _painter(studio, str(found.path), steps)
    numbers: dict[str, float] = {"vae_psnr": measures.reconstruction(checkpoint)}
    retrieved = _retrieval(checkpoint)
    if retrieved is not None:
        numbers["clip_r_at_1"] = retrieved
    rounds = {
        "full": measures.concept_trials("full"),
        "small": measures.concept_trials("small"),
        "pairs": measures.pair_trials(),
    }
    outcomes = {
        name: _judged(name, _limited(trials, limit), paint, checkpoint.size, quiet=as_json)
        for name, trials in rounds.items()
    }
    numbers["concept_accuracy_full"] = measures.concept_accuracy(outcomes["full"])
    numbers["concept_accuracy_small"] = measures.concept_accuracy(outcomes["small"])
    numbers["background_accuracy"] = measures.background_accuracy(outcomes["full"] + outcomes["small"])
    numbers["pair_accuracy_held_out"] = measures.concept_accuracy(outcomes["pairs"])
    if sheets is not None:
        _write_sheets(sheets, outcomes)
    if as_json:
        typer.echo(json.dumps(numbers))
    else:
        for name, value in numbers.items():
            typer.echo(f"{name:24} {value:.2f} dB" if name == "vae_psnr" else f"{name:24} {100 * value:.1f} %")


def _painter(studio: Studio, model: str, steps: int) -> Paint:
    import numpy as np

    from atelier.request.model import Request

    return lambda prompt, seed: np.asarray(
        studio.paint(Request(prompt=prompt, model=model, steps=steps, seed=seed))[0].image
    )


def _limited(trials: list[Trial], limit: int) -> list[Trial]:
    """Evenly spread over all of them."""
    return trials if not limit or limit >= len(trials) else [trials[i * len(trials) // limit] for i in range(limit)]


def _judged(name: str, trials: list[Trial], paint: Paint, size: int, *, quiet: bool) -> list[Outcome]:
    from rich.console import Console
    from rich.progress import track

    from atelier.train.evaluate import judged
    from atelier.train.judge import Judge

    stream = judged(trials, paint, Judge(size))
    return list(track(stream, name, len(trials), console=Console(stderr=True), disable=quiet))


def _retrieval(checkpoint: Checkpoint) -> float | None:
    """CLIP's R@1 among 150 captions, for a model that carries both towers."""
    import torch

    from atelier.train.data.dataset import SceneDataset
    from atelier.train.evaluate import SEED
    from atelier.train.tasks.clip import assembled, retrieval

    towers = assembled(checkpoint)
    if towers is None:
        return None
    data = SceneDataset(SEED, "held_out", checkpoint.size)
    return retrieval(towers, data, checkpoint.tokenizer, torch.device("cpu"))


def _write_sheets(folder: Path, outcomes: dict[str, list[Outcome]]) -> None:
    from atelier.train.data.sheet import sheet

    folder.mkdir(parents=True, exist_ok=True)
    for name, group in outcomes.items():
        captions = [f"{'' if o.right else '✗ '}{o.trial.prompt}" for o in group]
        sheet([o.picture for o in group], captions, columns=12).save(folder / f"{name}.png")
