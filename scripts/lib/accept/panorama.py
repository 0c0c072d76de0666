"""What panoramas of the embedded model show of the views that they were made in, and what they cost.

    scripts/accept panorama [--seeds N] [--steps N] [--method NAME]... [--overlap PIXELS] [--tile x] [--json]

Generates `--seeds` panoramas, four times as wide as high, by each method, with its usual overlap or with `--overlap`.
Reported are for each

    views       of one image
    border      the difference of neighbouring columns where a view begins or ends, by that elsewhere
    beside      the same by that of the positions of the latent right beside these
    cost        time of a step on one core, by that of a plain image of one view times the views

Differences are taken between columns of different positions of the latent, as those at the ends of views are.

Exit code 0: every border is at most 1.1, and every cost within 10 % of 1; 1: not so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from atelier.compose import engine
from atelier.diffusion.combine.tiles import starts
from atelier.request.events import ImageReady, Progress
from atelier.request.resolved import ResolvedViews
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.evaluate import rounds

WIDE, MOST, FREE = 4, 1.1, 0.1
METHODS = ("multidiffusion", "mixture")
Floats = NDArray[np.float64]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--method", choices=METHODS, action="append")
    parser.add_argument("--overlap", type=int)
    parser.add_argument("--tile", choices=("none", "x"), default="none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    own, more = engine(device="cpu", dtype="fp32"), {"steps": options.steps, "tile": options.tile}
    more |= {} if options.overlap is None else {"view_overlap": options.overlap}
    found: dict[str, dict[str, float]] = {}
    for method in options.method or METHODS:
        found[method] = measured(own, options.seeds, {**more, "view_method": method})
        if not options.json:
            print(f"{method}: {', '.join(f'{name} {value:g}' for name, value in found[method].items())}", flush=True)
    if options.json:
        print(json.dumps(found))
    fine = (own["border"] <= MOST and abs(own["cost"] - 1) <= FREE for own in found.values())
    return 0 if all(fine) else 1


def measured(own: Engine, seeds: int, fields: Mapping[str, object]) -> dict[str, float]:
    """The figures of one method."""
    large = rounds()["large"]
    trials = large[:: len(large) // seeds][:seeds]
    resolved = own.resolve(request_of({"prompt": "x", "model": "embedded"}))
    high, cell = resolved.size.height, own.resources.checkpoint(resolved.model).latent.factor
    wide = {**fields, "width": WIDE * high, "height": high}
    ends, count = borders(own, wide, cell)
    gradients, times = np.zeros(WIDE * high // cell - 1), list[float]()
    for trial in trials:
        asked = {"prompt": trial.scene.caption, "seed": trial.seed, "model": "embedded"}
        plain, seconds = timed(own, {**asked, "steps": fields["steps"]})
        image, longer = timed(own, {**asked, **wide})
        assert plain.shape[1] * WIDE == image.shape[1]
        gradients += differences(image, cell)
        times.append(longer / (seconds * count))
    return {"views": count, **seams(gradients, ends), "cost": round(float(np.median(times)), 3)}


def borders(own: Engine, fields: Mapping[str, object], cell: int) -> tuple[NDArray[np.bool_], int]:
    """Whether a view begins or ends between each two neighbouring positions of the latent, and how many views there
    are."""
    resolved = own.resolve(request_of({"prompt": "x", "model": "embedded", **fields}))
    views, side = resolved.views, resolved.size.width // cell
    assert isinstance(views, ResolvedViews)
    width = views.size.width // cell
    begins = starts(side, width, views.overlap // cell, wrap=resolved.tiling.x)
    places = {place % side for begin in begins for place in (begin, begin + width)} - {0}
    return np.array([place in places for place in range(1, side)]), len(begins)


def timed(own: Engine, fields: Mapping[str, object]) -> tuple[Floats, float]:
    """The image, and the time of a step behind the first, in seconds of one core."""
    moments, image = list[float](), None
    for event in own.events(request_of(dict(fields))):
        if isinstance(event, Progress):
            moments.append(time.process_time())
        if isinstance(event, ImageReady):
            image = event.image
    assert image is not None
    return np.asarray(image.convert("RGB"), np.float64), float(np.median(np.diff(moments)))


def differences(image: Floats, cell: int) -> Floats:
    """Of the columns at each side of every line between two positions of the latent, on average: (positions - 1,)."""
    lines = np.arange(cell, image.shape[1], cell)
    return np.abs(image[:, lines] - image[:, lines - 1]).mean((0, 2))


def seams(gradients: Floats, ends: NDArray[np.bool_]) -> dict[str, float]:
    """The difference at the ends by that elsewhere, and by that of the positions beside them."""
    beside = np.zeros_like(ends)
    for place in np.flatnonzero(ends):
        beside[max(place - 1, 0) : place + 2] = True
    near = beside & ~ends
    at = float(gradients[ends].mean())
    return {"border": round(at / gradients[~ends].mean(), 3), "beside": round(at / gradients[near].mean(), 3)}


if __name__ == "__main__":
    sys.exit(main())
