"""Measuring a model of emoji scenes, with a judge that never learns from generated pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from atelier.errors import BadFile
from atelier.families.checkpoint import Checkpoint
from atelier.train.batches import stack
from atelier.train.data import scenes
from atelier.train.data.dataset import SceneDataset
from atelier.train.judge import Judge, Kind
from atelier.train.tasks.images import psnr, to_image

Paint = Callable[[str, int], NDArray[np.uint8]]
"""(prompt, seed) -> picture, uint8 RGB (size, size, 3)."""

SCENES, PAIRS, SEED = 256, 200, 1_000


@dataclass(frozen=True, slots=True)
class Trial:
    """One picture to paint and what it must show: name and where, for each thing, and the background."""

    prompt: str
    seed: int
    things: tuple[tuple[str, Kind], ...]
    background: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the judge saw in a trial's picture."""

    trial: Trial
    picture: NDArray[np.uint8]
    seen: tuple[str, ...]
    background: str

    @property
    def right(self) -> bool:
        """Whether every thing is what and where it should be."""
        return self.seen == tuple(name for name, _ in self.trial.things)


def concept_trials(kind: Kind) -> list[Trial]:
    """One picture of every concept, "full" or "small", on backgrounds in turn."""
    names = tuple(scenes.BACKGROUNDS)
    trials: list[Trial] = []
    for number, concept in enumerate(scenes.concepts()):
        background = names[number % len(names)]
        thing = scenes.with_article(concept.name, "small" if kind == "small" else "")
        trials.append(
            Trial(f"{thing} on {_a(background)} background", SEED + number, ((concept.name, kind),), background)
        )
    return trials


def pair_trials(count: int = PAIRS) -> list[Trial]:
    """Held-out pairs, spread evenly over all of them, on backgrounds in turn."""
    pairs, names = scenes.held_out_pairs(), tuple(scenes.BACKGROUNDS)
    chosen = [pairs[i * len(pairs) // count] for i in range(count)]
    return [
        Trial(
            f"{scenes.with_article(left)} to the left of {scenes.with_article(right)} "
            f"on {_a(names[number % len(names)])} background",
            SEED + number,
            ((left, "left"), (right, "right")),
            names[number % len(names)],
        )
        for number, (left, right) in enumerate(chosen)
    ]


def rounds() -> dict[str, list[Trial]]:
    """All trials by what they ask for: "full", "small", "pairs"."""
    return {"full": concept_trials("full"), "small": concept_trials("small"), "pairs": pair_trials()}


def judge_of(checkpoint: Checkpoint) -> Judge:
    """Looks at pictures of the model's own size. Raises BadFile where that is no multiple of the references' size."""
    size, step = checkpoint.size, scenes.CELLS
    if size % step:
        raise BadFile(
            checkpoint.path, f"paints {size} pixels; the judge sees multiples of {step}: choose a model of such a size"
        )
    return Judge(size)


def judged(trials: Sequence[Trial], paint: Paint, judge: Judge) -> Iterator[Outcome]:
    """Paints and judges, one outcome after another."""
    for trial in trials:
        picture = paint(trial.prompt, trial.seed)
        seen = tuple(judge.concept(picture, kind).name for _, kind in trial.things)
        yield Outcome(trial, picture, seen, judge.background(picture))


def concept_accuracy(outcomes: Sequence[Outcome]) -> float:
    """Share of the pictures that show the right things."""
    return float(np.mean([outcome.right for outcome in outcomes]))


def background_accuracy(outcomes: Sequence[Outcome]) -> float:
    """Share of the pictures on the right background."""
    return float(np.mean([outcome.background == outcome.trial.background for outcome in outcomes]))


def accuracies(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, float]:
    """Shares of the pictures that are right, of the outcomes of `rounds`; backgrounds count in single things."""
    return {
        "concept_accuracy_full": concept_accuracy(outcomes["full"]),
        "concept_accuracy_small": concept_accuracy(outcomes["small"]),
        "background_accuracy": background_accuracy([*outcomes["full"], *outcomes["small"]]),
        "pair_accuracy_held_out": concept_accuracy(outcomes["pairs"]),
    }


@torch.no_grad()
def reconstruction(checkpoint: Checkpoint, count: int = SCENES) -> float:
    """Mean PSNR in dB of `count` held-out scenes through the autoencoder, in float32."""
    vae = checkpoint.load_vae(torch.float32)
    images = to_image(stack(SceneDataset(SEED, "held_out", checkpoint.size), range(count)))
    values = [psnr(vae.decode(vae.encode(chunk).mode()), chunk) for chunk in torch.split(images, 32)]
    return float(torch.cat(values).mean())


def _a(background: str) -> str:
    return f"{'an' if background[0] in 'aeiou' else 'a'} {background}"
