"""Whether images of the embedded model that repeat go on over their edges.

    scripts/accept tiling [--images N] [--steps N] [--axis x|y]... [--json]

Generates `--images` large things by their captions with `--tile x` and with `--tile y`, and lays each image beside
itself. Reported are for each axis, between columns (rows) of different positions of the latent,

    border      the difference where opposite edges meet, by that elsewhere
    beside      the same by that of the positions right beside the edge
    plain       what `border` is in the same images that are not made to repeat

Exit code 0: border and beside are at most 1.2; 1: they are not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from atelier.compose import engine
from atelier.request.table import request_of
from atelier.runtime.engine import Engine
from atelier.train.evaluate import rounds

MOST = 1.2
AXES = ("x", "y")
Floats = NDArray[np.float64]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--axis", choices=AXES, action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    own, found = engine(device="cpu", dtype="fp32"), dict[str, dict[str, float]]()
    for axis in options.axis or AXES:
        found[axis] = measured(own, axis, options.images, options.steps)
        if not options.json:
            print(f"{axis}: {', '.join(f'{name} {value:g}' for name, value in found[axis].items())}", flush=True)
    if options.json:
        print(json.dumps(found))
    return 0 if all(max(each["border"], each["beside"]) <= MOST for each in found.values()) else 1


def measured(own: Engine, axis: str, count: int, steps: int) -> dict[str, float]:
    """The figures of one axis."""
    large = rounds()["large"]
    trials = large[:: len(large) // count][:count]
    resolved = own.resolve(request_of({"prompt": "x", "model": "embedded"}))
    cell = own.resources.checkpoint(resolved.model).latent.factor
    repeating, plain = list[Floats](), list[Floats]()
    for trial in trials:
        asked = {"model": "embedded", "prompt": trial.scene.caption, "seed": trial.seed, "steps": steps}
        repeating.append(differences(along(generated(own, {**asked, "tile": axis}), axis), cell))
        plain.append(differences(along(generated(own, asked), axis), cell))
    return {**seam(np.sum(repeating, 0)), "plain": seam(np.sum(plain, 0))["border"]}


def generated(own: Engine, fields: Mapping[str, object]) -> Floats:
    image = own.generate(request_of(dict(fields)))[0].image
    return np.asarray(image.convert("RGB"), np.float64)


def along(image: Floats, axis: str) -> Floats:
    """The image so that the axis runs across: (height, width, 3)."""
    return image if axis == "x" else image.transpose(1, 0, 2)


def differences(image: Floats, cell: int) -> Floats:
    """Of the columns at each side of every line between two positions of the latent, on average; the first line is
    where the image goes on at its opposite edge: (positions,)."""
    lines = np.arange(0, image.shape[1], cell)
    return np.abs(image[:, lines] - image[:, lines - 1]).mean((0, 2))


def seam(gradients: Floats) -> dict[str, float]:
    """The difference at the first line by that at the others, and by that at the two lines beside it."""
    at, others, near = gradients[0], gradients[1:].mean(), gradients[[1, -1]].mean()
    return {"border": round(float(at / others), 3), "beside": round(float(at / near), 3)}


if __name__ == "__main__":
    sys.exit(main())
