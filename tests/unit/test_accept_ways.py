"""What the checks of panoramas, tiling and guidances compute from images, on images whose answer is known."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

CHECKS = Path(__file__).parents[2] / "scripts" / "lib" / "accept"


@pytest.fixture
def panorama(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CHECKS))
    return import_module("panorama")


@pytest.fixture
def tiling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CHECKS))
    return import_module("tiling")


@pytest.fixture
def guidance(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CHECKS))
    return import_module("guidance")


def test_a_seam_is_seen_where_views_end(panorama: ModuleType) -> None:
    """Six positions of 4 pixels, each 10 brighter than the last but at the fourth line, where it is 30; the lines
    beside it count as beside. Within a position nothing is looked at."""
    steps = np.array([10, 10, 10, 30, 10.0])
    columns = np.repeat(np.concatenate([[0], steps.cumsum()]), 4)
    columns[1] += 200
    image = np.tile(columns[:, None], (3, 1, 3)).reshape(3, 24, 3)
    gradients = panorama.differences(image, 4)
    assert gradients.tolist() == steps.tolist()
    ends = np.array([False, False, False, True, False])
    assert panorama.seams(gradients, ends) == {"border": 3.0, "beside": 3.0}
    gradients[0] = 50
    assert panorama.seams(gradients, ends) == {"border": 1.5, "beside": 3.0}


def test_the_ends_of_views_are_found(panorama: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the embedded model, 64 positions in views of 16 that overlap by half; in a ring there is one more."""
    from atelier.compose import engine

    own = engine(device="cpu")
    wide: dict[str, Any] = {"width": 512, "height": 128, "view_method": "mixture", "view_overlap": 64}
    ends, count = panorama.borders(own, wide, 8)
    assert (count, (np.flatnonzero(ends) + 1).tolist()) == (7, [8, 16, 24, 32, 40, 48, 56])
    ends, count = panorama.borders(own, {**wide, "tile": "x", "view_overlap": 32}, 8)
    assert count == 6
    assert {5, 10, 16, 21, 26, 32, 37, 42, 48, 53, 58} == set((np.flatnonzero(ends) + 1).tolist())


@pytest.mark.parametrize("up", [True, False])
def test_how_sure_an_effect_is(guidance: ModuleType, monkeypatch: pytest.MonkeyPatch, up: bool) -> None:
    """Differences of 2 and 4: 3 on average, with a standard error of 2 ** 0.5 / 2 ** 0.5."""
    monkeypatch.setattr(guidance, "pair", lambda _own, _effect, number, _steps: (1.0, 3.0 + 2 * (number % 2)))
    found = guidance.measured(None, SimpleNamespace(up=up), 2, 8)
    assert (found["without"], found["with"], found["better"]) == (1.0, 4.0, float(up))
    assert found["sure"] == pytest.approx(3 if up else -3, abs=0.01)


def test_a_seam_is_seen_where_opposite_edges_meet(tiling: ModuleType) -> None:
    """Four positions of 4 pixels, each 10 brighter than the last: right and left differ by 30. Within a position
    nothing is looked at, and rows are columns of the image turned over."""
    columns = np.repeat(np.arange(4) * 10.0, 4)
    columns[1] += 200
    image = np.tile(columns[:, None], (3, 1, 3)).reshape(3, 16, 3)
    gradients = tiling.differences(image, 4)
    assert gradients.tolist() == [30, 10, 10, 10]
    assert tiling.differences(tiling.along(image.transpose(1, 0, 2), "y"), 4).tolist() == gradients.tolist()
    assert tiling.seam(gradients) == {"border": 3.0, "beside": 3.0}
    assert tiling.seam(np.array([30.0, 20.0, 10.0, 40.0])) == {"border": 1.286, "beside": 1.0}
