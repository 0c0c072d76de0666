"""Generates captions that a seed draws, image n with seed n, 30 steps: neither captions nor images are chosen."""

from __future__ import annotations

import sys
from pathlib import Path

from atelier.compose import engine
from atelier.request.model import Request
from atelier.train.data import scenes
from atelier.train.data.sheet import sheet

COUNT, COLUMNS, STEPS, SEED = 24, 6, 30, 2_000
"""Scenes of SEED are drawn in the order and the shares of a training."""


def main() -> None:
    output = Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    here = engine()
    captions = [scenes.scene(SEED, number).caption for number in range(COUNT)]
    requests = (Request(prompt=caption, seed=seed, steps=STEPS) for seed, caption in enumerate(captions))
    images = [here.generate(request)[0].image for request in requests]
    sheet(images, captions, COLUMNS).save(output, optimize=True)
    print(output)


if __name__ == "__main__":
    main()
