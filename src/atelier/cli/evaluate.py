"""`atelier evaluate`: how good a model of emoji scenes is, in numbers."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atelier.request.fields import FACTOR, STEPS

if TYPE_CHECKING:
    from atelier.checkpoints.checkpoint import Checkpoint
    from atelier.runtime.engine import Engine
    from atelier.train.evaluate import Generate, Outcome, Trial
    from atelier.train.judge import Judge

app = typer.Typer(help="Measure the quality of a model.")


@app.command()
def evaluate(
    model: Annotated[str | None, typer.Option(help="Name or path; the embedded model if not given.")] = None,
    steps: Annotated[int, typer.Option(min=STEPS.low, max=STEPS.high, help="Steps of each image.")] = 30,
    cfg: Annotated[
        float | None, typer.Option(min=FACTOR.low, max=FACTOR.high, help="CFG scale; the model's own if not given.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many images of each kind; 0 = all.")] = 0,
    sheets: Annotated[Path | None, typer.Option(help="Folder for sheets of the judged images.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Generate every concept large and small, pairs, and combinations held out of training, and measure the images.

    fidelity: PSNR against the one right image; strict, tolerant: how often a judge that forgives little, or much, names
    every thing right; worst: the mean of the worst tenth.
    """
    import json

    from atelier.checkpoints.opening import open_checkpoint
    from atelier.compose import engine as make_engine
    from atelier.runtime.store import Destination, remove_empty
    from atelier.runtime.threads import settle_process
    from atelier.train import evaluate as measures

    settle_process(os.environ)
    engine = make_engine()
    checkpoint = open_checkpoint(engine.library.find(model).path)
    judge = measures.judge_of(checkpoint)
    with ExitStack() as at_end:
        if sheets is not None:
            at_end.callback(remove_empty, Destination(sheets).prepare())
        parts = _parts(checkpoint)
        generate = _generator(engine, str(checkpoint.path), steps, cfg)
        outcomes = {
            name: _judged(name, _limited(trials, limit), generate, judge, quiet=as_json)
            for name, trials in measures.rounds().items()
        }
        numbers = {**parts, **measures.numbers(outcomes)}
        typer.echo(json.dumps(numbers) if as_json else _table(numbers))
        if sheets is not None:
            _write_sheets(sheets, outcomes)


def _parts(checkpoint: Checkpoint) -> dict[str, float]:
    """What is measured of single networks: the autoencoder, and CLIP where the model carries both towers."""
    from atelier.train.evaluate import reconstruction

    retrieved = _retrieval(checkpoint)
    return {"vae_psnr_db": reconstruction(checkpoint), **({} if retrieved is None else {"clip_r_at_1": retrieved})}


def _table(numbers: dict[str, float]) -> str:
    return "\n".join(f"{name.removesuffix('_db'):34} {_shown(name, value)}" for name, value in numbers.items())


def _shown(name: str, value: float) -> str:
    if name.endswith("_db"):
        return f"{value:.2f} dB"
    return f"{value:.2f} of 255" if name in {"background_deviation", "background_bias"} else f"{100 * value:.1f} %"


def _generator(engine: Engine, model: str, steps: int, cfg: float | None) -> Generate:
    import numpy as np

    from atelier.request.model import Request

    return lambda prompt, seed: np.asarray(
        engine.generate(Request(prompt=prompt, model=model, steps=steps, seed=seed, cfg_scale=cfg))[0].image
    )


def _limited(trials: list[Trial], limit: int) -> list[Trial]:
    """Evenly spread over all of them."""
    return trials if not limit or limit >= len(trials) else [trials[i * len(trials) // limit] for i in range(limit)]


def _judged(name: str, trials: list[Trial], generate: Generate, judge: Judge, *, quiet: bool) -> list[Outcome]:
    from rich.console import Console
    from rich.progress import track

    from atelier.train.evaluate import judged

    stream = judged(trials, generate, judge)
    return list(track(stream, name, len(trials), console=Console(stderr=True), disable=quiet))


def _retrieval(checkpoint: Checkpoint) -> float | None:
    """CLIP's R@1 among 150 captions, for a model that carries both towers."""
    import torch

    from atelier.families.parts import PROJECTION, VISION
    from atelier.train.data.dataset import SceneDataset
    from atelier.train.evaluate import SEED
    from atelier.train.starts import towers_of
    from atelier.train.tasks.clip import assembled, retrieval
    from atelier.weights.tokenizer import ClipTokenizer

    if not (checkpoint.has(VISION) and checkpoint.has(PROJECTION)):
        return None
    towers, words = towers_of(checkpoint), checkpoint.tokenizers[0]
    assert isinstance(words, ClipTokenizer)
    data = SceneDataset(SEED, "held_out", towers.vision.image)
    return retrieval(assembled(towers), data, words, torch.device("cpu")).r_at_1


def _write_sheets(folder: Path, outcomes: dict[str, list[Outcome]]) -> None:
    from atelier.runtime.store import write_png
    from atelier.train.data.sheet import sheet

    for name, group in outcomes.items():
        captions = [f"{'' if o.strictly_right else '✗ '}{o.trial.scene.caption}" for o in group]
        write_png(folder / f"{name}.png", sheet([o.image for o in group], captions, columns=12))
