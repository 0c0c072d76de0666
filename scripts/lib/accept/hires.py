"""What a second pass does to images of the embedded model, beside the same images enlarged by bicubic interpolation.

    scripts/accept hires [--images N] [--strength X] [--upscaler NAME] [--json]

Generates N large things of the evaluation, each alone and with a second pass of twice the size, from the same seed.
Prints for both the share in which the judge sees the concept, and the high-frequency energy: the mean square of what a
blur by 2 pixels takes away.

Exit code 0: the second pass has at least the accuracy and more energy; 1: it has not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageFilter

from atelier.compose import engine
from atelier.request.table import request_of
from atelier.train.evaluate import Trial, rounds
from atelier.train.judge import Judge

BLUR = 2.0
"""Pixels; what lies above is what a bicubic enlargement by 2 cannot have."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--strength", type=float, default=0.2, help="the embedded model knows one size of image")
    parser.add_argument("--upscaler", default="Lanczos")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    second = {
        "hires_upscale": 2.0,
        "hires_upscaler": options.upscaler,
        "hires_denoising_strength": options.strength,
    }
    large = rounds()["large"]
    found = compared(large[:: max(1, len(large) // options.images)][: options.images], second)
    print(json.dumps(found) if options.json else told(found))
    plain, again = found["bicubic"], found["second pass"]
    return 0 if again["accuracy"] >= plain["accuracy"] and again["energy"] > plain["energy"] else 1


def compared(trials: Sequence[Trial], second: Mapping[str, object]) -> dict[str, dict[str, float]]:
    """The figures of both ways to a larger image."""
    images: dict[str, list[Image.Image]] = {"bicubic": [], "second pass": []}
    make = generator()
    for trial in trials:
        small, large = make(trial, {}), make(trial, second)
        images["bicubic"].append(small.resize(large.size, Image.Resampling.BICUBIC))
        images["second pass"].append(large)
    return {
        name: {
            "accuracy": float(np.mean([is_seen(trial, image) for trial, image in zip(trials, made, strict=True)])),
            "energy": float(np.mean([energy(image) for image in made])),
        }
        for name, made in images.items()
    }


def generator() -> Callable[[Trial, Mapping[str, object]], Image.Image]:
    """Makes the image of a trial with the embedded model, with some fields of the request."""
    own = engine()

    def make(trial: Trial, fields: Mapping[str, object]) -> Image.Image:
        return own.generate(request_of({"prompt": trial.scene.caption, "seed": trial.seed, **fields}))[0].image

    return make


def is_seen(trial: Trial, image: Image.Image) -> bool:
    """Whether the judge sees the concept in an image of a multiple of 64 pixels."""
    return Judge(image.width).concept(np.asarray(image)).name == trial.scene.objects[0].name


def energy(image: Image.Image) -> float:
    """The mean square of the high frequencies, in values of 0 to 255."""
    blurred = image.filter(ImageFilter.GaussianBlur(BLUR))
    return float(np.square(np.asarray(image, np.float64) - np.asarray(blurred)).mean())


def told(found: Mapping[str, Mapping[str, float]]) -> str:
    return "\n".join(
        f"{name:12} concept seen in {100 * of['accuracy']:.0f} %, high-frequency energy {of['energy']:.1f}"
        for name, of in found.items()
    )


if __name__ == "__main__":
    sys.exit(main())
