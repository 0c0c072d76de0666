"""Training images for the controls of the embedded model: emoji scenes, with a hint of each type for every one.

    python scripts/lib/control_scenes.py FOLDER [--count N]

FOLDER/images has N scenes as PNG with their captions; FOLDER/segmentation, depth, normal and keypoints have their
hints, by the same names. Edges need none: they are drawn of the images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from atelier.train.data.scene_hints import HINTS
from atelier.train.data.scenes import render, scene

SIZE = 128
SEED = 20_000
"""Of the sequence of scenes: none that the model was trained or is measured on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2048)
    options = parser.parse_args()
    for name in ("images", *HINTS):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(options.count):
        own = scene(SEED, number)
        path = options.folder / "images" / f"{number:05d}.png"
        Image.fromarray(render(own, SIZE)).save(path)
        path.with_suffix(".txt").write_text(own.caption, encoding="utf-8")
        for name, hint in HINTS.items():
            hint(own, SIZE).save(options.folder / name / path.name)


if __name__ == "__main__":
    main()
