"""Measuring a model of emoji scenes: how near its images are to the right ones, and what two judges see in them.

Scenes lie on a lattice, so the right image of a caption is known to the pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.errors import BadFile
from atelier.families.parts import VAE
from atelier.train.batches import stack
from atelier.train.data import scenes
from atelier.train.data.dataset import SceneDataset
from atelier.train.data.scenes import Scene
from atelier.train.judge import Judge, Kind
from atelier.train.strict import recognised
from atelier.train.tasks.images import psnr, to_pixels

Generate = Callable[[str, int], NDArray[np.uint8]]
"""(prompt, seed) -> image, uint8 RGB (size, size, 3)."""
Round = str
"""What is asked for: "large", "small" and "pairs" as in training; "held_out_pairs" and "held_out_grounds"."""

SCENES, PAIRS, GROUNDS, SEED = 256, 200, 100, 1_000
TRAINING: tuple[Round, ...] = ("large", "small", "pairs")
BORDER = 3
"""Width of the border whose colour is measured, in cells of a scene."""
WORST = 0.1
"""The share of the images that counts as the worst."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One image to generate, by the caption of the scene that it must show."""

    scene: Scene
    seed: int

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Where the judge looks for each object."""
        return ("left", "right") if self.scene.kind == "pair" else (self.scene.kind,)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured in a trial's image.

    seen: what the tolerant judge sees in place of each object; recognised: what the strict one does; ground: the
    background's name as the judge has it; fidelity: PSNR against the rendering in dB; deviation and bias: of the
    border's colour, 0 to 255, see `border`.
    """

    trial: Trial
    image: NDArray[np.uint8]
    seen: tuple[str, ...]
    recognised: tuple[str, ...]
    ground: str
    fidelity: float
    deviation: float
    bias: float

    @property
    def right(self) -> bool:
        """Whether the tolerant judge sees every object where it should be."""
        return self.seen == self._names

    @property
    def strictly_right(self) -> bool:
        """Whether the strict judge recognises every object."""
        return self.recognised == self._names

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(placed.name for placed in self.trial.scene.objects)


def rounds() -> dict[Round, list[Trial]]:
    """All trials: every concept once large and once small, in all places; pairs; and, of what training never showed,
    pairs and single things on a background. Backgrounds come in turn."""
    made: dict[Round, list[Scene]] = {
        "large": [scenes.large(name, ground) for name, ground in _known_grounds()],
        "small": [
            scenes.small(name, ground, (None, *scenes.PLACES)[number % (1 + len(scenes.PLACES))])
            for number, (name, ground) in enumerate(_known_grounds())
        ],
        "pairs": [
            scenes.pair(drawn.objects[0].name, drawn.objects[1].name, drawn.background)
            for drawn in (scenes.scene(SEED, number, shares=(0, 0, 1)) for number in range(PAIRS))
        ],
        "held_out_pairs": [
            scenes.pair(left, right, tuple(scenes.BACKGROUNDS)[number % len(scenes.BACKGROUNDS)])
            for number, (left, right) in enumerate(_spread(scenes.held_out_pairs(), PAIRS))
        ],
        "held_out_grounds": [scenes.large(*found) for found in _spread(scenes.held_out_colours(), GROUNDS)],
    }
    return {name: [Trial(s, SEED + number) for number, s in enumerate(group)] for name, group in made.items()}


def judge_of(checkpoint: Checkpoint) -> Judge:
    """Looks at images of the model's own size. Raises BadFile where that is no multiple of the references' size."""
    size, step = checkpoint.size, scenes.CELLS
    if size % step:
        raise BadFile(
            checkpoint.path,
            f"generates {size} pixels; the judge sees multiples of {step}: choose a model of such a size",
        )
    return Judge(size)


def judged(trials: Sequence[Trial], generate: Generate, judge: Judge) -> Iterator[Outcome]:
    """Generates and judges, one outcome after another."""
    for trial in trials:
        yield measured(trial, generate(trial.scene.caption, trial.seed), judge)


def measured(trial: Trial, image: NDArray[np.uint8], judge: Judge) -> Outcome:
    """Everything that is measured in the image (size, size, 3) of a trial."""
    scene = trial.scene
    right = scenes.render(scene, len(image))
    deviation, bias = border(image, right, scene.background)
    return Outcome(
        trial,
        image,
        tuple(judge.concept(image, kind).name for kind in trial.kinds),
        tuple(recognised(image, placed, kind) for placed, kind in zip(scene.objects, trial.kinds, strict=True)),
        judge.background(image),
        fidelity(image, right),
        deviation,
        bias,
    )


def fidelity(image: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    """PSNR in dB between an image and the rendering of its scene, both (size, size, 3); at most 99."""
    error = np.square(image.astype(np.float64) - right).mean()
    return float(min(99.0, 10 * np.log10(255**2 / max(error, 1e-12))))


def border(image: NDArray[np.uint8], right: NDArray[np.uint8], ground: str) -> tuple[float, float]:
    """(deviation, bias) of the background along the border, 0 to 255.

    Of the pixels at most BORDER cells from the edge that show the background in the rendering: the root mean square of
    what differs from their mean colour, and of what their mean colour differs from the named one.
    """
    width, colour = BORDER * len(image) // scenes.CELLS, np.array(scenes.BACKGROUNDS[ground], float)
    outer = np.ones(image.shape[:2], bool)
    outer[width:-width, width:-width] = False
    pixels = image[outer & (right == colour).all(-1)].astype(np.float64)
    mean = pixels.mean(0)
    return float(np.sqrt(np.square(pixels - mean).mean())), float(np.sqrt(np.square(mean - colour).mean()))


def numbers(outcomes: Mapping[Round, Sequence[Outcome]]) -> dict[str, float]:
    """All numbers of the outcomes of `rounds`: decibels end in _db, others are shares, or colours from 0 to 255."""
    training = [outcome for name in TRAINING for outcome in outcomes[name]]
    everything = [outcome for group in outcomes.values() for outcome in group]
    return {
        **_fidelities("training", training),
        **{key: value for name, group in outcomes.items() for key, value in _fidelities(name, group).items()},
        **{f"strict_{name}": share(o.strictly_right for o in group) for name, group in outcomes.items()},
        **{f"tolerant_{name}": share(o.right for o in group) for name, group in outcomes.items()},
        "background_named": share(o.ground == o.trial.scene.background for o in everything),
        "background_deviation": float(np.mean([o.deviation for o in everything])),
        "background_bias": float(np.mean([o.bias for o in everything])),
    }


def share(hits: Iterator[bool]) -> float:
    """Of all, how many are true."""
    return float(np.mean(list(hits)))


def worst(values: Sequence[float]) -> float:
    """The mean of the worst tenth, at least of one."""
    return float(np.mean(np.sort(values)[: max(1, round(WORST * len(values)))]))


@torch.no_grad()
def reconstruction(checkpoint: Checkpoint, count: int = SCENES) -> float:
    """Mean PSNR in dB of `count` held-out scenes through the autoencoder, in float32."""
    vae = checkpoint.load(VAE, torch.float32)
    images = to_pixels(stack(SceneDataset(SEED, "held_out", checkpoint.size), range(count)))
    values = [psnr(vae.decode(vae.encode(chunk).mode()), chunk) for chunk in torch.split(images, 32)]
    return float(torch.cat(values).mean())


def _fidelities(name: str, outcomes: Sequence[Outcome]) -> dict[str, float]:
    values = [outcome.fidelity for outcome in outcomes]
    return {f"fidelity_{name}_median_db": float(np.median(values)), f"fidelity_{name}_worst_db": worst(values)}


def _known_grounds() -> list[tuple[str, str]]:
    """Every concept with a background that training shows it on: the next in turn that is one."""
    grounds = tuple(scenes.BACKGROUNDS)
    return [
        (concept.name, next(g for g in (*grounds[turn:], *grounds) if not scenes.is_held_out_colour(concept.name, g)))
        for turn, concept in ((number % len(grounds), concept) for number, concept in enumerate(scenes.concepts()))
    ]


def _spread(items: Sequence[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    return [items[number * len(items) // count] for number in range(count)]
