"""Generates a fixed list of prompts, image n with seed n, 30 steps: what comes is shown, nothing is chosen."""

from __future__ import annotations

import sys
from pathlib import Path

from atelier.compose import engine
from atelier.request.model import Request
from atelier.train.data.sheet import sheet

PROMPTS = (
    "a red apple on a blue background",
    "a cat on a yellow background",
    "a rocket on a black background",
    "a sunflower on a cyan background",
    "a hamburger on a white background",
    "an owl on a purple background",
    "a large pizza on a green background",
    "a volcano on a gray background",
    "a guitar on a pink background",
    "a sailboat on an orange background",
    "a snowman on a red background",
    "a penguin on a brown background",
    "a small fox on a white background",
    "a small bicycle on a yellow background",
    "a small star on a black background",
    "a small house on a green background",
    "a small frog on a pink background",
    "a small key on a cyan background",
    "a dog to the left of a birthday cake on a white background",
    "a banana to the right of a monkey on a blue background",
    "a robot to the left of a red heart on a gray background",
    "a fire to the right of a mushroom on a black background",
    "a bus to the left of a cactus on an orange background",
    "a sun to the right of a cloud on a cyan background",
)
COLUMNS, STEPS = 6, 30


def main() -> None:
    output = Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    here = engine()
    requests = (Request(prompt=prompt, seed=seed, steps=STEPS) for seed, prompt in enumerate(PROMPTS))
    images = [here.generate(request)[0].image for request in requests]
    sheet(images, PROMPTS, COLUMNS).save(output, optimize=True)
    print(output)


if __name__ == "__main__":
    main()
