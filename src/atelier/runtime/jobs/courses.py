"""How a training goes, read from what its run writes: whole also after a server was started again."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from atelier.request.events import Json

LOG = "run/log.jsonl"
"""Of a job that teaches, in its folder: a JSON object for each step, as `train.logbook` writes it."""
MOST = 1000
"""Points of a curve that are told."""
Point = tuple[int, float]


def course(folder: Path, most: int = MOST) -> dict[str, Json]:
    """{"points", "checks"}: [step, loss] in the order of steps, and the same of the loss at noise that is always the
    same; at most so many of both. They are empty where nothing is there; a line that is torn ends what is read."""
    points: list[Point] = []
    checks: list[Point] = []
    for row in _rows(folder / LOG):
        step = int(row["step"])
        if "loss" in row:
            points.append((step, row["loss"]))
        if "fixed" in row:
            checks.append((step, row["fixed"]))
    return {"points": _plain(thinned(points, most)), "checks": _plain(thinned(checks, most))}


def thinned(points: Sequence[Point], most: int = MOST) -> list[Point]:
    """At most so many points: each the mean of as many neighbours, at the step of the last of them."""
    width = -(-len(points) // most) if points else 1
    groups = (points[at : at + width] for at in range(0, len(points), width))
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def _plain(points: Sequence[Point]) -> list[Json]:
    return [[step, round(loss, 6)] for step, loss in points]


def _rows(path: Path) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = cast("object", json.loads(line))
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict):
            break
        numbers = cast("dict[str, object]", row)
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers.values()):
            break
        if "step" in numbers:
            rows.append(cast("dict[str, float]", numbers))
    return rows
