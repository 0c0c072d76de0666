"""Whether a LoRA teaches the embedded model the style of another emoji font, on things that it was not shown in it.

    scripts/accept style FOLDER [--asked N] [--steps N] [--start SHARE] [--keep FOLDER] [--json]

FOLDER holds the other font's renderings: PNG images with transparency, named by code point (1f34e.png), such as
img/twitter/64 of the package emoji-datasource-twitter. The things that the model knows and that are there are divided:
`--asked` of them are asked for later; the others, each large on three backgrounds and once small, are the training
images of `atelier teach lora --preset style`, with the model's own captions: the LoRA is the switch, not a word. A
logistic regression on how often colours occur learns to tell both fonts apart from renderings of the others; it sees
nothing generated, and no thing that is asked for. Then each thing that is asked for is generated with the LoRA, which
acts after a share of the steps (`--start`), and without; and as many things that it was shown.

Reported: the share of images with the LoRA, and without, that it takes for the new style, and of how many the right
thing's rendering, in either style, is nearest; "shown": the same of things that are among the training images.
classifier: how often it is right about renderings of the things that are asked for.

Exit code 0: the new style is seen in 90 % of the images with the LoRA, and the right thing in at most 10 points less
than without; 1: not so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from atelier.cli.app import run
from atelier.compose import engine
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.data import art, scenes
from atelier.train.data.scenes import Concept

WORD = "zwx"
SIZE, STEPS, SEED = 128, 20, 70_000
SIDE = 64
"""Pixels at which images are compared: no more than the other font's renderings have."""
EXTENT = 52
"""Of those, the longer side of a thing."""
SHIFTS = 2
"""A thing may stand so many pixels beside its place."""
LEAST_STYLE, MOST_LOST, LEAST_CLASSIFIER = 0.9, 0.1, 0.9
LEAST_THINGS = 40
LEVELS = 8
"""Of each colour, in what the fonts are told apart by."""
GRID = scenes.GRID * SIZE // scenes.CELLS
"""Pixels, of whose multiples the model's own images place a thing."""
WEIGHT = 1.5
"""Of the LoRA in prompts."""
LARGE = 3
"""Training images of each thing that show it large."""
RECIPE = (
    "run.batch=16",
    "optim.kind=muon",
    "optim.rate=2e-3",
    "targets.layers=all",
    "adapter.rank=32",
    "adapter.alpha=32",
    "adapter.conv_rank=32",
    "adapter.conv_alpha=32",
    "times.least=0.03",
    "times.most=0.6",
)
"""Beside the preset. Only the times at which the LoRA acts are taught: at noisier ones the base says what is where."""
SEEN, GROUND, EVEN, ROUNDS = 2, 0.12, 0.03, 80
"""How often each thing is rendered for that; how far from the background a pixel is no part of it; the weight of the
squared coefficients; iterations."""
Pixels = NDArray[np.uint8]
Sprites = dict[str, Image.Image]
"""Things by name: RGBa, cut to what is seen."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--asked", type=int, default=20)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--start", type=float, default=0.4)
    parser.add_argument("--keep", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = options.folder.absolute()
    with tempfile.TemporaryDirectory() as place:
        home = (options.keep or Path(place)).absolute()
        home.mkdir(parents=True, exist_ok=True)
        os.chdir(home)
        os.environ["ATELIER_MODELS"] = str(home / "models")
        found = measured(folder, home, options.asked, options.steps, options.start)
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {value:.3f}" for name, value in found.items()))
    return 0 if is_good(found) else 1


def is_good(found: dict[str, float]) -> bool:
    is_kept = found["right thing"] >= found["right thing, base"] - MOST_LOST - 1e-9
    return found["style"] >= LEAST_STYLE and is_kept and found["classifier"] >= LEAST_CLASSIFIER


def measured(folder: Path, home: Path, count: int, steps: int, start: float) -> dict[str, float]:
    concepts, new = known_in(folder)
    old = {concept.name: art.glyph(concept.emoji) for concept in concepts}
    asked, others = divided(concepts, count)
    shown, _ = divided(others, count)
    classifier = trained([[font[concept.name] for concept in others] for font in (old, new)])
    right = [said_new(classifier, renderings([font[c.name] for c in asked])) for font in (old, new)]
    teach(training_images(home / "data", others, new), steps)
    own, tag = engine(device="cpu", dtype="fp32"), f"<lora:style:{WEIGHT}:start={start}>"
    made = {
        f"{group}{way}": (list(generated(own, things, more)), things)
        for group, things in (("", asked), (", shown", shown))
        for way, more in (("", tag), (", base", ""))
    }
    sheet(home / "style.png", [image for images, _ in made.values() for image in images], count)
    references = [(c.name, font[c.name]) for c in concepts for font in (old, new)]
    return {
        **{f"style{name}": said_new(classifier, reduced(images)) for name, (images, _) in made.items()},
        **{f"right thing{name}": right_things(*own, references) for name, own in made.items()},
        "classifier": (1 - right[0] + right[1]) / 2,
    }


# Things and their renderings.


def known_in(folder: Path) -> tuple[list[Concept], Sprites]:
    """The things that the embedded model knows and the folder shows, and how it shows them."""
    found: Sprites = {}
    for concept in scenes.concepts():
        code = f"{ord(concept.emoji[0]):x}"
        for name in (code, f"{code}-fe0f"):
            path = folder / f"{name}.png"
            if path.is_file():
                found[concept.name] = cut(path)
                break
    if len(found) < LEAST_THINGS:
        raise SystemExit(f"{folder}: shows {len(found)} of the things that the model knows: give PNGs named 1f34e.png")
    return [concept for concept in scenes.concepts() if concept.name in found], found


def cut(path: Path) -> Image.Image:
    with Image.open(path) as image:
        whole = image.convert("RGBA")
    return whole.crop(whole.getbbox()).convert("RGBa")


def divided(concepts: Sequence[Concept], count: int) -> tuple[list[Concept], list[Concept]]:
    """(those that are asked for, the others)."""
    every = max(1, len(concepts) // count)
    asked = list(concepts[::every][:count])
    return asked, [concept for concept in concepts if concept not in asked]


def pasted(
    sprite: Image.Image, colour: Sequence[int], size: int, extent: float, shift: tuple[int, int], grid: int = 1
) -> Pixels:
    """The thing in the middle of a flat ground, at the next multiples of `grid` pixels: (size, size, 3)."""
    ratio = extent / max(sprite.size)
    width, height = (max(1, round(side * ratio)) for side in sprite.size)
    small = np.asarray(sprite.resize((width, height), Image.Resampling.LANCZOS), np.float32)
    canvas = np.empty((size, size, 3), np.float32)
    canvas[:] = colour
    top, left = (((size - side) // 2 + grid // 2) // grid * grid for side in (height, width))
    top, left = top + shift[1], left + shift[0]
    place = canvas[top : top + height, left : left + width]
    place[:] = small[..., :3] + place * (1 - small[..., 3:] / 255)
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8)


def renderings(sprites: Sequence[Image.Image]) -> Tensor:
    """Each on the next background: (N, 3, SIDE, SIDE), 0 to 1."""
    grounds = itertools.cycle(scenes.BACKGROUNDS.values())
    made = [pasted(own, next(grounds), SIDE, EXTENT, (0, 0)) for own in sprites]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255


def reduced(images: Sequence[Pixels]) -> Tensor:
    """(N, 3, SIDE, SIDE), 0 to 1."""
    whole = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return F.avg_pool2d(whole, whole.shape[-1] // SIDE)


# What tells the fonts apart.


@dataclass(frozen=True)
class Classifier:
    """Says of images whether they are of the first font or of the second, by the colours of the thing that they show.

    Flat and shaded areas, outlines and shapes tell these fonts apart less well, and are what generating changes most.
    mean, deviation, weight: (LEVELS ** 3,); bias: (1,).
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, SIDE, SIDE), 0 to 1 -> (N,), positive for the second font."""
        return (colours(images) - self.mean) / self.deviation @ self.weight + self.bias


def trained(fonts: Sequence[Sequence[Image.Image]]) -> Classifier:
    """Taught by renderings of each thing of both fonts on a few backgrounds."""
    random, grounds = np.random.default_rng(0), list(scenes.BACKGROUNDS.values())
    fonts_of = torch.tensor([float(number) for number, font in enumerate(fonts) for _ in range(SEEN * len(font))])
    shown = [
        pasted(sprite, grounds[random.integers(len(grounds))], SIDE, EXTENT, (0, 0))
        for font in fonts
        for sprite in font
        for _ in range(SEEN)
    ]
    found = colours(torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float() / 255)
    mean, deviation = found.mean(0), found.std(0) + 1e-3
    weight, bias = (torch.zeros(size, requires_grad=True) for size in (LEVELS**3, 1))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ROUNDS)

    def loss() -> Tensor:
        optimizer.zero_grad()
        said = (found - mean) / deviation @ weight + bias
        error = F.binary_cross_entropy_with_logits(said, fonts_of) + EVEN * weight.square().sum()
        error.backward()
        return error

    optimizer.step(loss)  # pyright: ignore[reportArgumentType] - it takes what gives a tensor
    return Classifier(mean, deviation, weight.detach(), bias.detach())


def colours(images: Tensor) -> Tensor:
    """How often each colour occurs in what is not background: square roots of shares, (N, LEVELS ** 3).

    A pixel counts for the eight nearest colours of a lattice, the nearer the more.
    """
    border = torch.cat([images[:, :, :2].flatten(2), images[:, :, -2:].flatten(2)], 2).median(2).values
    apart = ((images - border[:, :, None, None]).abs().amax(1) > GROUND).float().flatten(1)
    place = images.flatten(2) * (LEVELS - 1)
    low = place.floor().clamp(max=LEVELS - 2)
    share, found = place - low, torch.zeros(len(images), LEVELS**3)
    for corner in itertools.product((0, 1), repeat=3):
        above = torch.tensor(corner)[:, None]
        near = torch.where(above == 1, share, 1 - share).prod(1)
        digits = (low.long() + above) * torch.tensor([LEVELS**2, LEVELS, 1])[:, None]
        found.scatter_add_(1, digits.sum(1), near * apart)
    return (found / (apart.sum(1, keepdim=True) + 1)).sqrt()


def said_new(classifier: Classifier, images: Tensor) -> float:
    """The share that is taken for the second font."""
    return float((classifier(images) > 0).float().mean())


def right_things(
    images: Sequence[Pixels], asked: Sequence[Concept], references: Sequence[tuple[str, Image.Image]]
) -> float:
    """The share of images to which a rendering of the thing that was asked for is nearest, of all things and styles.

    What is compared is what an image has beside its background, slightly blurred, at every small shift.
    """
    names, layers = [name for name, _ in references], layered([own for _, own in references])
    hits: list[bool] = []
    for image, concept in zip(reduced(images), asked, strict=True):
        border = torch.cat([image[:, :2].flatten(1), image[:, -2:].flatten(1)], 1).median(1).values[:, None, None]
        every, own = blurred(layers[:, :3] - border * layers[:, 3:]), blurred((image - border)[None])[0]
        shifted = [own.roll((y, x), (1, 2)) for y in range(-SHIFTS, SHIFTS + 1) for x in range(-SHIFTS, SHIFTS + 1)]
        nearest = torch.stack([(every - one).square().sum((1, 2, 3)) for one in shifted]).amin(0)
        relative = nearest / (every.square().sum((1, 2, 3)) + own.square().sum())
        hits.append(names[int(relative.argmin())] == concept.name)
    return float(np.mean(hits))


def layered(sprites: Sequence[Image.Image]) -> Tensor:
    """Each in the middle of nothing: (N, 4, SIDE, SIDE), premultiplied colours and alpha, 0 to 1."""
    on_black, on_white = (
        np.stack([pasted(own, [level] * 3, SIDE, EXTENT, (0, 0)) for own in sprites]).astype(np.float32) / 255
        for level in (0, 255)
    )
    alpha = 1 - (on_white - on_black).mean(-1, keepdims=True)
    return torch.from_numpy(np.concatenate([on_black, alpha], -1)).permute(0, 3, 1, 2)


def blurred(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, 3, 1, 1)


# Teaching and asking.


def training_images(folder: Path, concepts: Sequence[Concept], new: Sprites) -> Path:
    """Of each thing LARGE large images and a small one, on different backgrounds, captioned as the model's own are."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, concept in enumerate(concepts):
        grounds = [
            tuple(scenes.BACKGROUNDS)[(number + 5 * turn) % len(scenes.BACKGROUNDS)] for turn in range(LARGE + 1)
        ]
        shown = [scenes.large(concept.name, ground) for ground in grounds[:LARGE]]
        for turn, scene in enumerate([*shown, scenes.small(concept.name, grounds[LARGE])]):
            extent = scene.objects[0].extent * SIZE / scenes.CELLS
            colour = scenes.BACKGROUNDS[scene.background]
            name = f"{number:03d}-{turn}"
            Image.fromarray(pasted(new[concept.name], colour, SIZE, extent, (0, 0), GRID)).save(folder / f"{name}.png")
            (folder / f"{name}.txt").write_text(scene.caption)
    return folder


def teach(data: Path, steps: int) -> None:
    named = ["--word", WORD, "--name", "style", "--preset", "style", "--overwrite", "--prior", "0"]
    numbers = ["--steps", str(steps), *(word for own in RECIPE for word in ("--set", own))]
    code = run(["teach", "lora", "--data", str(data), *named, *numbers])
    if code:
        raise SystemExit(code)


def generated(own: Engine, asked: Sequence[Concept], more: str) -> Iterator[Pixels]:
    """Each thing on the next background."""
    grounds = itertools.cycle(scenes.BACKGROUNDS)
    for number, concept in enumerate(asked):
        prompt = scenes.large(concept.name, next(grounds)).caption + more
        request = request_of({"prompt": prompt, "model": "embedded", "seed": SEED + number, "steps": STEPS})
        yield np.asarray(own.generate(request)[0].image.convert("RGB"))


def sheet(path: Path, images: Sequence[Pixels], columns: int) -> None:
    rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images), columns)]
    Image.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    sys.exit(main())
