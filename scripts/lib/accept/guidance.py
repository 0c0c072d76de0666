"""What PAG, SAG, FreeU and CLIP guidance do to images of the embedded model: one effect of each, and how sure it is.

    scripts/accept guidance [--images N] [--steps N] [--only NAME]... [--json]

Generates `--images` images without classifier-free guidance, with and without each, from the same seeds, and measures

    PAG            by a caption: the mean difference of neighbouring pixels (0 to 255); it adds structure, so more
    SAG            by a caption: the deviation from a blur of 3 x 3 pixels (0 to 255); it smooths, so less
    FreeU          by a caption: the same; it sharpens, so more
    CLIP guidance  by a caption: the likeness to it by the model's own CLIP; more

Exit code 0: each mean of the differences goes where it is expected, by at least 3 standard errors; 1: one does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from atelier.checkpoints.text import encode
from atelier.compose import engine
from atelier.pipeline.resources import IMAGE_TEXT, TEXT
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.evaluate import rounds

SEED, SURE = 40_000, 3.0
Pixels = NDArray[np.uint8]
Measure = Callable[[Engine, Pixels, str], float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--only", choices=EFFECTS, action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    own, found = engine(device="cpu", dtype="fp32"), dict[str, dict[str, float]]()
    for name in options.only or EFFECTS:
        found[name] = measured(own, EFFECTS[name], options.images, options.steps)
        if not options.json:
            print(f"{name}: {', '.join(f'{key} {value:g}' for key, value in found[name].items())}", flush=True)
    if options.json:
        print(json.dumps(found))
    return 0 if all(effect["sure"] >= SURE for effect in found.values()) else 1


def difference(_: Engine, image: Pixels, __: str) -> float:
    values = image.astype(float)
    return float(np.mean([np.abs(np.diff(values, axis=axis)).mean() for axis in (0, 1)]))


def fineness(_: Engine, image: Pixels, __: str) -> float:
    values = torch.tensor(image).permute(2, 0, 1)[None].float()
    return float((values - avg_pool2d(values, 3, 1, 1, count_include_pad=False)).std())


def likeness(own: Engine, image: Pixels, caption: str) -> float:
    model = own.resolve(request_of({"prompt": "x", "model": "embedded"})).model
    pixels = torch.tensor(image).float().permute(2, 0, 1)[None] / 127.5 - 1
    with own.resources.borrow(model, TEXT) as text, own.resources.borrow(model, IMAGE_TEXT) as judge:
        pooled = encode(text, (caption,)).pooled
        assert pooled is not None
        return float(judge.similarity(pixels, pooled))


@dataclass(frozen=True, slots=True)
class Effect:
    """fields: that switch the guidance on; measure: what it changes; up: whether more is expected."""

    fields: Mapping[str, float | str]
    measure: Measure
    up: bool = False


EFFECTS: Mapping[str, Effect] = {
    "PAG": Effect({"pag_scale": 0.5, "pag_layers": "up.1"}, difference, up=True),
    "SAG": Effect({"sag_scale": 2.0, "sag_blur_sigma": 1.0}, fineness),
    "FreeU": Effect({"freeu_b1": 1.3, "freeu_b2": 1.4, "freeu_s1": 0.9, "freeu_s2": 0.2}, difference, up=True),
    "CLIP guidance": Effect({"clip_guidance_scale": 100.0}, likeness, up=True),
}


def measured(own: Engine, effect: Effect, count: int, steps: int) -> dict[str, float]:
    """The means without and with it, and how many standard errors their difference is where it is expected."""
    pairs = np.array([pair(own, effect, number, steps) for number in range(count)])
    apart = (pairs[:, 1] - pairs[:, 0]) * (1 if effect.up else -1)
    error = float(apart.std(ddof=1)) / count**0.5
    without, with_it = (float(mean) for mean in pairs.mean(0))
    return {
        "without": round(without, 4),
        "with": round(with_it, 4),
        "better": round(float((apart > 0).mean()), 3),
        "sure": round(float(apart.mean()) / error, 2),
    }


def pair(own: Engine, effect: Effect, number: int, steps: int) -> tuple[float, float]:
    """What is measured of one image without the guidance and with it."""
    large = rounds()["large"]
    caption = large[number * 7 % len(large)].scene.caption
    asked = {"model": "embedded", "prompt": caption, "seed": SEED + number, "steps": steps, "cfg_scale": 1.0}
    images = [
        np.asarray(own.generate(request_of({**asked, **more}))[0].image)
        for more in (dict[str, float | str](), effect.fields)
    ]
    first, second = (effect.measure(own, image, caption) for image in images)
    return first, second


if __name__ == "__main__":
    sys.exit(main())
