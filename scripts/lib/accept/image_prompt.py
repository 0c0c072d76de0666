"""How much of a reference the embedded model shows: its concept and its colour, by an empty prompt.

    scripts/accept image_prompt FILE [--count N] [--steps N] [--weight W] [--keep DIR] [--json]

FILE is an IP-Adapter for the embedded model. Held-out scenes of one large thing are the references. Each is generated
with an empty prompt, with the reference and without, from one seed. Measured: the share of images in which the judge
recognises the reference's thing, and the share with its background.

Exit code 0: 80 % of the things are recognised, and 80 % of the backgrounds; 1: not so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.compose import engine
from atelier.request.pictures import data_uri
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.data.scenes import Scene, render, scene
from atelier.train.judge import Judge

SIZE = 128
SCENES, SEED = 50_000, 60_000
CONCEPT, COLOUR = 0.8, 0.8

Pixels = NDArray[np.uint8]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--keep", type=Path, help="where a sheet of references and images is written")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measured(engine(device="cpu", dtype="fp32"), options)
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if found["concept"] >= CONCEPT and found["colour"] >= COLOUR else 1


def measured(engine_: Engine, options: argparse.Namespace) -> dict[str, float]:
    judge = Judge(SIZE)
    numbers: dict[str, list[float]] = {}
    rows: list[list[Image.Image]] = []
    for number, own in enumerate(islice(large(), options.count)):
        shown = Image.fromarray(render(own, SIZE))
        reference = (f'{data_uri(shown)}:{options.weight} model="{options.file.resolve()}"',)
        made = {
            way: generated(engine_, SEED + number, options.steps, references)
            for way, references in (("", reference), (" without", ()))
        }
        for way, image in made.items():
            is_known = judge.concept(image).name == own.objects[0].name
            numbers.setdefault(f"concept{way}", []).append(is_known)
            numbers.setdefault(f"colour{way}", []).append(judge.background(image) == own.background)
        rows.append([shown, *(Image.fromarray(image) for image in made.values())])
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        sheet(rows).save(options.keep / "image_prompt.png")
    return {what: round(float(np.mean(values)), 3) for what, values in sorted(numbers.items())}


def large() -> Iterator[Scene]:
    """Held-out scenes of one large thing."""
    every = (scene(SCENES, number, "held_out") for number in count())
    return (own for own in every if own.kind == "full")


def generated(engine_: Engine, seed: int, steps: int, references: tuple[str, ...]) -> Pixels:
    request = request_of({"prompt": "", "seed": seed, "steps": steps, "references": references})
    return np.asarray(engine_.generate(request)[0].image.convert("RGB"))


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """A column for each reference: it, what is generated with it, and without."""
    canvas = Image.new("RGB", (SIZE * len(rows), SIZE * len(rows[0])))
    for x, row in enumerate(rows):
        for y, image in enumerate(row):
            canvas.paste(image.resize((SIZE, SIZE)), (x * SIZE, y * SIZE))
    return canvas


if __name__ == "__main__":
    sys.exit(main())
