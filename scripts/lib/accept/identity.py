"""How often the embedded model keeps a drawn face that a reference shows, where the prompt says only place and ground.

    scripts/accept identity FILE FONTS [--count N] [--steps N] [--weight W] [--keep DIR] [--json]

FILE is an IP-Adapter for the embedded model that was trained on the scenes of scripts/lib/identity_scenes.py, FONTS the
folder of npm that those are made of. Of the identities that were trained, and of those that never were, N each are
asked for: another image of the face, cut out, on white, turned a little, sometimes mirrored, is the reference; the
prompt says large or small, where, and the background. Each is generated with the reference and without, from one seed.

Measured: the share of images in which, of all faces of all fonts, the asked one is nearest, pixel by pixel, at the
place and size that the prompt says; and the share with the background that it says.

Exit code 0: 80 % of the trained identities are kept; 1: not so.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.compose import engine
from atelier.request.pictures import data_uri
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.data.scenes import BACKGROUNDS, on
from atelier.train.judge import Judge
from identity_scenes import SIZE, SPOTS, Identity, Spot, another, drawn, identities, is_held_out, placed

REFERENCES, SEED = 70_000, 80_000
KEPT = 0.8
SHIFTS = 2
"""Pixels of a reduced image that a face may stand beside its place."""
HALF = SIZE // 2
"""Side of the images that are compared."""

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Asked:
    """One image: whose face, where, on what ground; number: of its seed."""

    own: Identity
    spot: Spot
    ground: str
    reference: Image.Image
    number: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--keep", type=Path, help="where sheets of references and images are written")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    everyone = identities(options.fonts)
    engine_ = engine(device="cpu", dtype="fp32")
    found: dict[str, float] = {}
    for name, are_new in (("trained", False), ("new", True)):
        some = list(asked([own for own in everyone if is_held_out(own) == are_new], options.count))
        found |= {f"{name} {what}": value for what, value in measured(engine_, name, some, everyone, options).items()}
    print(json.dumps(found, indent=None if options.json else 1))
    return 0 if is_kept(found) else 1


def is_kept(found: Mapping[str, float]) -> bool:
    return found["trained kept"] >= KEPT


def asked(people: Sequence[Identity], count: int) -> Iterator[Asked]:
    """So many identities, evenly of all of them; every other one small."""
    for number, own in enumerate(people[:: max(1, len(people) // count)][:count]):
        random = drawn(REFERENCES, number)
        spot = SPOTS[random.integers(1, len(SPOTS))] if number % 2 else SPOTS[0]
        yield Asked(own, spot, tuple(BACKGROUNDS)[number % len(BACKGROUNDS)], another(own.image, random), number)


def measured(
    engine_: Engine, name: str, some: Sequence[Asked], everyone: tuple[Identity, ...], options: argparse.Namespace
) -> dict[str, float]:
    numbers: dict[str, list[float]] = {}
    rows: list[list[Image.Image]] = []
    judge = Judge(SIZE)
    for own in some:
        reference = (f'{data_uri(own.reference)}:{options.weight} model="{options.file.resolve()}"',)
        row = [own.reference, placed(own.own.image, own.spot, BACKGROUNDS[own.ground])]
        for way, references in (("", reference), (" without", ())):
            image = generated(engine_, own, options.steps, references)
            numbers.setdefault(f"kept{way}", []).append(nearest(image, own.spot, everyone) is own.own)
            numbers.setdefault(f"ground{way}", []).append(judge.background(image) == own.ground)
            row.append(Image.fromarray(image))
        rows.append(row)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        sheet(rows).save(options.keep / f"identity_{name}.png")
    return {what: round(float(np.mean(values)), 3) for what, values in sorted(numbers.items())}


def generated(engine_: Engine, own: Asked, steps: int, references: tuple[str, ...]) -> Pixels:
    prompt = own.spot.said + on(own.ground)
    request = request_of({"prompt": prompt, "seed": SEED + own.number, "steps": steps, "references": references})
    return np.asarray(engine_.generate(request)[0].image.convert("RGB"))


def nearest(image: Pixels, spot: Spot, everyone: tuple[Identity, ...]) -> Identity:
    """Whose face at this spot, or its mirror image, is nearest to what an image shows: the mean squared difference of
    colours, least over small shifts."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    on_black, on_white = shown(everyone, spot)
    faces = (on_black + (on_white - on_black) * np.float32(np.median(border, axis=0) / 255)).reshape(len(on_black), -1)
    seen, shifts = reduced(image), range(-SHIFTS, SHIFTS + 1)
    shifted = np.stack([np.roll(seen, (y, x), (0, 1)).ravel() for y in shifts for x in shifts])
    distances = (shifted**2).sum(1) + (faces**2).sum(1)[:, None] - 2 * faces @ shifted.T
    return everyone[int(distances.min(1).argmin()) % len(everyone)]


@functools.lru_cache(maxsize=2)
def shown(everyone: tuple[Identity, ...], spot: Spot) -> tuple[Floats, Floats]:
    """Of each face, and then of each mirrored, the image of it alone at this spot on black and on white, between which
    that on any other ground lies: (2 N, HALF, HALF, 3) each."""
    faces = [own.image for own in everyone]
    faces += [face.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for face in faces]
    black, white = (
        np.stack([reduced(np.asarray(placed(face, spot, ground))) for face in faces])
        for ground in (BACKGROUNDS["black"], BACKGROUNDS["white"])
    )
    return black, white


def reduced(image: Pixels) -> Floats:
    """(HALF, HALF, 3): averaged over squares of two pixels."""
    return image.reshape(HALF, 2, HALF, 2, 3).mean((1, 3), dtype=np.float32) / 255


def sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """A column for each: the reference, the face as it is drawn, generated with the reference, and without."""
    canvas = Image.new("RGB", (SIZE * len(rows), SIZE * len(rows[0])))
    for x, row in enumerate(rows):
        for y, image in enumerate(row):
            canvas.paste(image, (x * SIZE, y * SIZE))
    return canvas


if __name__ == "__main__":
    sys.exit(main())
