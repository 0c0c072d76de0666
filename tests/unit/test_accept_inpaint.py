"""scripts/accept inpaint: two scenes of the embedded model, and what it calls a seam."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

CHECKS = Path(__file__).parents[2] / "scripts" / "lib" / "accept"


@pytest.fixture
def inpaint(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CHECKS))
    return import_module("inpaint")


def test_a_seam_is_a_step_larger_than_those_beside_it(inpaint: ModuleType) -> None:
    ramp = np.tile(np.arange(0, 160, 10, dtype=np.uint8)[None, :, None], (4, 1, 3))
    assert inpaint.seam([ramp], (8,)) == pytest.approx(1)
    stepped = ramp.copy()
    stepped[:, 8:] += 33
    assert inpaint.seam([stepped], (8,)) == pytest.approx(44 / 11)
    assert inpaint.seam([stepped], (4,)) == pytest.approx(1)
    assert inpaint.seam([np.full_like(ramp, 7)], (8,)) == 1


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"changed": 1.0}, False),
        ({"outpaint_changed": 1.0}, False),
        ({"seam": 1.26}, False),
        ({"outpaint_seam": 1.26}, False),
        ({"found": 0.71}, False),
        ({"found": 0.72}, True),
    ],
)
def test_what_is_good_enough(inpaint: ModuleType, change: dict[str, float], good: bool) -> None:
    usual = {"changed": 0.0, "found": 0.9, "text_to_image": 0.9, "seam": 1.2, "outpaint_changed": 0.0}
    assert inpaint.passes({**usual, "outpaint_seam": 1.2, **change}) is good


def test_scenes_keep_what_is_not_masked(inpaint: ModuleType) -> None:
    found = inpaint.measured(2, 0.6)
    assert (found["changed"], found["outpaint_changed"]) == (0, 0)
    assert max(found["seam"], found["outpaint_seam"]) < 3
