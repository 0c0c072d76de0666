"""From maps of keypoints and limbs to people (Cao 2017, arXiv:1611.08050, sections 2.2 to 2.4), by the rules and the
numbers of the program that ControlNet's pose models were trained behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atelier.vision.arrays.shapes import Point
from atelier.vision.pose import BODY, LIMBS, Points

Floats = NDArray[np.float64]

JOINED = (*LIMBS, (2, 16), (5, 17))
"""The limbs that are drawn, and from each shoulder to the ear of its side: too few to begin somebody."""
FIELDS = (12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26)
"""Which map is the part across of each limb; the next one is that down."""
SIGMA, REACH = 3, 12
"""Pixels by which the maps of keypoints are smoothed before their peaks are sought, and where that kernel ends."""
SURE, ALONG = 0.1, 0.05
"""Least height of a peak; least share of a limb's direction at a place on it."""
SAMPLES, ENOUGH = 10, 0.8
"""Places looked at on a limb, and the share of them that has to point along it."""
FEWEST, LEAST = 4, 0.4
"""Keypoints of a person, and the mean score of a keypoint."""
MOST = 128
"""Peaks of one keypoint that are considered, the highest: pairs of all are tried."""


class Peak(NamedTuple):
    x: int
    y: int
    score: float


class Pair(NamedTuple):
    """Two peaks, by number, that a limb joins."""

    a: int
    b: int
    score: float


@dataclass(slots=True)
class _Body:
    """Somebody while being put together: the number of the peak of each keypoint."""

    score: float = 0.0
    count: int = 0
    peaks: dict[int, int] = field(default_factory=dict[int, int])


def bodies(points: Floats, smooth: Floats, limbs: Floats) -> tuple[Points, ...]:
    """Everybody's 18 keypoints of maps of them (h, w, 19), the same smoothed by `smoothing`, and maps of limbs
    (h, w, 38), at the size of the image."""
    peaks = [peaks_of(points[..., part], smooth[..., part]) for part in range(BODY)]
    found: list[_Body] = []
    for (a, b), across in zip(JOINED, FIELDS, strict=True):
        for pair in pairs(peaks[a], peaks[b], limbs[..., across : across + 2]):
            _join(found, a, b, pair, peaks)
    kept = [body for body in found if body.count >= FEWEST and body.score / body.count >= LEAST]
    return tuple(_points(body, peaks) for body in kept)


def peaks_of(heat: Floats, smooth: Floats) -> list[Peak]:
    """Where the smoothed map is above SURE and no lower than at its four neighbours; scores are of the map itself."""
    around = np.pad(smooth, 1)
    beside = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    is_peak = np.all([smooth >= other for other in beside], axis=0) & (smooth > SURE)
    rows, columns = np.nonzero(is_peak)
    highest = np.sort(np.argsort(-smooth[rows, columns], kind="stable")[:MOST])
    return [Peak(int(x), int(y), float(heat[y, x])) for y, x in zip(rows[highest], columns[highest], strict=True)]


def smoothing(length: int) -> Floats:
    """(length, length): a Gaussian along one side; beyond the border the map is mirrored, its outermost values too."""
    kernel = np.exp(-(np.arange(-REACH, REACH + 1) ** 2) / (2 * SIGMA**2))
    kernel /= kernel.sum()
    places = np.pad(np.arange(length), REACH, mode="symmetric")
    made = np.zeros((length, length))
    for i, weight in enumerate(kernel):
        np.add.at(made, (np.arange(length), places[i : i + length]), weight)
    return made


def pairs(first: Sequence[Peak], second: Sequence[Peak], along: Floats) -> list[Pair]:
    """Pairs that a limb may join, the best first, each peak in one of them. along: (h, w, 2), the limb's direction."""
    if not first or not second:
        return []
    scores = _scores(first, second, along)
    tried = [Pair(int(i), int(j), float(scores[i, j])) for i, j in np.argwhere(scores > 0)]
    taken_a, taken_b, found = set[int](), set[int](), list[Pair]()
    for pair in sorted(tried, key=lambda p: -p.score):
        if pair.a not in taken_a and pair.b not in taken_b:
            found.append(pair)
            taken_a.add(pair.a)
            taken_b.add(pair.b)
    return found


def _scores(first: Sequence[Peak], second: Sequence[Peak], along: Floats) -> Floats:
    """(first, second): how well the limb's direction from one to the other agrees with the map, less for limbs longer
    than half the image; 0 where it does not at too many places."""
    starts = np.array([(peak.x, peak.y) for peak in first], float)[:, None]
    ways = np.array([(peak.x, peak.y) for peak in second], float)[None] - starts
    lengths = np.hypot(ways[..., 0], ways[..., 1]).clip(0.001)
    places = np.rint(np.linspace(starts, starts + ways, SAMPLES)).astype(int)
    agrees = (along[places[..., 1], places[..., 0]] * (ways / lengths[..., None])).sum(-1)
    scores = agrees.mean(0) + np.minimum(0.5 * along.shape[0] / lengths - 1, 0)
    return np.where((agrees > ALONG).sum(0) > ENOUGH * SAMPLES, scores.clip(0), 0)


def _join(found: list[_Body], a: int, b: int, pair: Pair, peaks: list[list[Peak]]) -> None:
    """Adds a limb to whom one of its ends belongs; one that joins two people without a keypoint in common makes them
    one; else somebody begins with it."""
    owners = [body for body in found if body.peaks.get(a) == pair.a or body.peaks.get(b) == pair.b][:2]
    if not owners:
        both = peaks[a][pair.a].score + peaks[b][pair.b].score
        found.append(_Body(both + pair.score, 2, {a: pair.a, b: pair.b}))
        return
    body, *others = owners
    if others and not body.peaks.keys() & others[0].peaks.keys():
        body.peaks |= others[0].peaks
        body.count += others[0].count
        body.score += others[0].score + pair.score
        found[:] = [each for each in found if each is not others[0]]
    elif others or body.peaks.get(b) != pair.b:
        body.peaks[b] = pair.b
        body.count += 1
        body.score += peaks[b][pair.b].score + pair.score


def _points(body: _Body, peaks: list[list[Peak]]) -> Points:
    found = (peaks[part][body.peaks[part]] if part in body.peaks else None for part in range(BODY))
    return tuple(None if peak is None else Point(peak.x, peak.y) for peak in found)
