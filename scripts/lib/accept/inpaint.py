"""Inpainting and outpainting with the embedded model: what is kept, what is found in the mask, and the seam.

    scripts/accept inpaint [--scenes N] [--outpaint-strength X] [--json]

Inpainting: of `--scenes` rendered pairs of things the right half is masked, and another thing is asked for there, on
the CPU, at strength 1. Outpainting: rendered small things grow by half of their width on both sides. Reported are

    changed          pixels that are others where the mask is 0, of all images
    found            the share of images in which the judge sees the thing that was asked for in the mask
    text_to_image    the same of images made of the same captions alone
    seam             the difference between neighbouring columns at the mask's edge, by that beside it
    outpaint_changed, outpaint_seam     the same of outpainting

Exit code 0: nothing kept is changed, found is at least 80 % of text_to_image, both seams are at most 1.25; 1: not so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atelier.compose import engine
from atelier.request.pictures import data_uri
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.data import scenes
from atelier.train.judge import Judge

SEED, SHARE, SEAM = 30_000, 0.8, 1.25
ROUNDING = 1e-9
REACH = 10
"""Pixels that a mask's blur of 4 reaches over its edge."""
FLAT = 1.0
"""Of 255, added to both differences: two flat colours have no seam, whatever their quotient is."""
Pixels = NDArray[np.uint8]
Trial = tuple[str, str, str, str]
"""The thing on the left, the one that was on the right, the one that is asked for there, the background."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument(
        "--outpaint-strength", type=float, default=0.6, help="above, the embedded model paints the thing once more"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measured(options.scenes, options.outpaint_strength)
    print(json.dumps(found) if options.json else "\n".join(f"{name}: {number:.3f}" for name, number in found.items()))
    return 0 if passes(found) else 1


def passes(found: dict[str, float]) -> bool:
    kept = found["changed"] == found["outpaint_changed"] == 0
    seams = max(found["seam"], found["outpaint_seam"]) <= SEAM
    return kept and seams and found["found"] >= SHARE * found["text_to_image"] - ROUNDING


def trials(count: int) -> Iterator[Trial]:
    """Pairs that a training may have seen, spread over the concepts, each on the next background."""
    names, grounds = [concept.name for concept in scenes.concepts()], tuple(scenes.BACKGROUNDS)
    for number in range(count):
        left, old, new = (names[(number * 7 + shift) % len(names)] for shift in (0, 11, 23))
        yield left, old, new, grounds[number % len(grounds)]


def measured(count: int, strength: float) -> dict[str, float]:
    """The numbers by name."""
    engine_ = engine(device="cpu", dtype="fp32")
    size = engine_.resources.open(engine_.library.find("embedded").path).size
    inside, grown = list(inpainted(engine_, count, size)), list(outpainted(engine_, count, size, strength))
    return {
        "changed": float(sum(changed for changed, *_ in inside)),
        "found": float(np.mean([seen for _, seen, _, _ in inside])),
        "text_to_image": float(np.mean([seen for *_, seen in inside])),
        "seam": seam([image for _, _, image, _ in inside], (size // 2,)),
        "outpaint_changed": float(sum(changed for changed, _ in grown)),
        "outpaint_seam": seam([image for _, image in grown], (size // 2, size // 2 + size)),
    }


def inpainted(engine_: Engine, count: int, size: int) -> Iterator[tuple[int, bool, Pixels, bool]]:
    """Of each scene: pixels changed, whether the thing is found, the image, whether it is found without an image."""
    mask = Image.new("L", (size, size))
    mask.paste(255, (size // 2, 0, size, size))
    judge = Judge(size)
    for number, (left, old, new, background) in enumerate(trials(count)):
        before, prompt = (
            scenes.render(scenes.pair(left, old, background), size),
            scenes.pair(left, new, background).caption,
        )
        source = {"image": uri(before), "mask": data_uri(mask), "denoising_strength": 1.0}
        made, plain = (generated(engine_, SEED + number, prompt, **more) for more in (source, {}))
        kept = slice(None), slice(0, size // 2 - REACH)
        found, alone = (judge.concept(image, "right").name == new for image in (made, plain))
        yield int((made[kept] != before[kept]).any(-1).sum()), found, made, alone


def outpainted(engine_: Engine, count: int, size: int, strength: float) -> Iterator[tuple[int, Pixels]]:
    """Of each scene: pixels changed, and the image."""
    for number, (name, _, _, background) in enumerate(trials(count)):
        scene = scenes.small(name, background)
        before = scenes.render(scene, size)
        sides = f"left={size // 2},right={size // 2}"
        grown = {"image": uri(before), "outpaint": sides, "denoising_strength": strength}
        made = generated(engine_, SEED + number, scene.caption, **grown)
        yield int((made[:, size // 2 : -(size // 2)] != before).any(-1).sum()), made


def generated(engine_: Engine, seed: int, prompt: str, **fields: object) -> Pixels:
    image = engine_.generate(request_of({"prompt": prompt, "model": "embedded", "seed": seed, **fields}))[0].image
    return np.asarray(image.convert("RGB"))


def uri(pixels: Pixels) -> str:
    return data_uri(Image.fromarray(pixels))


def seam(images: list[Pixels], columns: tuple[int, ...]) -> float:
    """The mean difference between the columns on both sides of an edge, by the mean of the differences next to it."""
    across, beside = [], []
    for image in images:
        steps = np.abs(np.diff(image.astype(np.int16), axis=1)).mean((0, 2))
        across += [steps[column - 1] for column in columns]
        beside += [steps[column + shift] for column in columns for shift in (-3, -2, 0, 1)]
    return float((np.mean(across) + FLAT) / (np.mean(beside) + FLAT))


if __name__ == "__main__":
    sys.exit(main())
