"""How often two things that regions place left and right are found in their halves, beside one prompt for both.

    scripts/accept regions [--pairs N] [--steps N] [--ground SHARE] [--way NAME]... [--json]

Generates `--pairs` held-out pairs with the embedded model on the CPU, each from a seed of its own, in five ways: each
thing alone at its side ("alone"), both by a caption without regions ("caption"), and both by two regions that halve the
image, whose predictions ("regions") or whose attention ("attention") are mixed, or whose attention is divided from the
first step on and half of which goes to a base, the caption of both ("base"). The judge says what it sees in each half.
With `--way` only those are generated.

Exit code 0: regions, by every method, find at least 80 % as many things as are found alone; 1: fewer. Without "alone"
nothing is compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from atelier.compose import engine
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.data import scenes
from atelier.train.judge import Judge

SEED = 20_000
BOUND = 0.8
WAYS = ("alone", "caption", "regions", "attention", "base")
BY_REGIONS = WAYS[2:]
SIDES = ("left", "right")
BOXES = ("0,0,0.5,1", "0.5,0,1,1")
Pair = tuple[str, str, str]
"""The thing on the left, the one on the right, the background."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ground", type=float, help="share of the steps on flat colours; left out, what is usual")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    more = {"steps": options.steps} | ({} if options.ground is None else {"region_ground": options.ground})
    found = measured(list(pairs(options.pairs)), options.way or WAYS, more)
    print(json.dumps(found) if options.json else "\n".join(f"{way}: {share:.3f}" for way, share in found.items()))
    least = BOUND * found.get("alone", 0)
    return 0 if all(found[way] >= least for way in BY_REGIONS if way in found) else 1


def pairs(count: int) -> Iterator[Pair]:
    """Held-out pairs, spread over all there are, each on the next background."""
    every, grounds = scenes.held_out_pairs(), tuple(scenes.BACKGROUNDS)
    for number in range(count):
        yield (*every[number * len(every) // count], grounds[number % len(grounds)])


def measured(some: list[Pair], ways: Sequence[str], more: Mapping[str, object]) -> dict[str, float]:
    """The share of things that are found in their halves, by the way in which they were asked for."""
    engine_ = engine(device="cpu", dtype="fp32")
    hits: dict[str, list[bool]] = {way: [] for way in ways}
    for number, pair in enumerate(some):
        left, right, background = pair
        for way in ways:
            images = [generated(engine_, SEED + number, {**more, **fields}) for fields in asked(pair)[way]]
            hits[way] += found(images[0], left, "left"), found(images[-1], right, "right")
        if sys.stderr.isatty():
            print(f"\r\033[K{number + 1}/{len(some)} {left}, {right} on {background}", end="", file=sys.stderr)
    return {way: float(np.mean(own)) for way, own in hits.items()}


def asked(pair: Pair) -> dict[str, list[dict[str, object]]]:
    """By way: the fields of the requests, of which the first shows the left thing and the last the right one."""
    left, right, background = pair
    alone = [scenes.small(name, background, f"on the {side}").caption for name, side in zip(pair, SIDES, strict=False)]
    regions = tuple(f"box={box}: {caption}" for box, caption in zip(BOXES, alone, strict=True))
    both, ground = scenes.pair(left, right, background).caption, f"a {background} background"
    own: dict[str, object] = {"prompt": ground, "regions": regions}
    base = {"regions": (*regions, f"box=0,0,1,1: {both}"), "region_ground": 0.0}
    return {
        "alone": [{"prompt": caption} for caption in alone],
        "caption": [{"prompt": both}],
        "regions": [own],
        "attention": [{**own, "region_method": "attention"}],
        "base": [{**own, **base, "region_method": "attention"}],
    }


def generated(engine_: Engine, seed: int, fields: dict[str, object]) -> np.ndarray:
    image = engine_.generate(request_of({"model": "embedded", "seed": seed, **fields}))[0].image
    return np.asarray(image.convert("RGB"))


def found(image: np.ndarray, name: str, side: str) -> bool:
    return Judge(len(image)).concept(image, "left" if side == "left" else "right").name == name


if __name__ == "__main__":
    sys.exit(main())
