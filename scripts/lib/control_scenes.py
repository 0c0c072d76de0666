"""Training images for the controls of the embedded model: emoji scenes, with a hint of each type for every one.

    python scripts/lib/control_scenes.py FOLDER [--count N] [--plain]

FOLDER/images has N scenes as PNG with their captions; FOLDER/segmentation, depth, normal and keypoints have their
hints, by the same names. Edges need none: they are drawn of the images.

Half of the scenes of one thing have it anywhere and of any size. Half of the captions say what alone, a tenth the
background alone: by a caption that says where a thing is, there is nothing for a hint to teach. With --plain, for image
prompts, scenes and captions are as they are, of the first N those with one thing, and of small ones every third.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from atelier.train.data.scene_hints import HINTS, moved, what
from atelier.train.data.scenes import Scene, on, render, scene

SIZE = 128
SEED = 20_000
"""Of the sequence of scenes: none that the model was trained or is measured on."""
MOVED = 0.5
EVERY = 3
WHAT, GROUND = 0.5, 0.1
"""Shares of captions that say what alone, and the background alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2048)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    for name in ("images", *HINTS):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    chosen = plain(options.count) if options.plain else ((number, drawn(number)) for number in range(options.count))
    for number, own in chosen:
        path = options.folder / "images" / f"{number:05d}.png"
        Image.fromarray(render(own, SIZE)).save(path)
        path.with_suffix(".txt").write_text(own.caption, encoding="utf-8")
        for name, hint in HINTS.items():
            hint(own, SIZE).save(options.folder / name / path.name)


def plain(count: int) -> Iterator[tuple[int, Scene]]:
    small = 0
    for number in range(count):
        own = scene(SEED, number)
        small += own.kind == "small"
        if own.kind == "full" or (own.kind == "small" and small % EVERY == 0):
            yield number, own


def drawn(number: int) -> Scene:
    random = np.random.default_rng([SEED, number])
    own = scene(SEED, number)
    if random.random() < MOVED:
        own = moved(own, random)
    share = random.random()
    if share < WHAT:
        return replace(own, caption=what(own))
    return replace(own, caption=on(own.background).removeprefix(" on ")) if share < WHAT + GROUND else own


if __name__ == "__main__":
    main()
