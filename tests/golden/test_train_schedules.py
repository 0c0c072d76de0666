"""The course of the learning rate against transformers' schedules, and what they do not have against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
from transformers import optimization as theirs

from atelier.train.pace import COURSES, Pace, pace
from atelier.train.recipe import Optim, Schedule

STEPS, WARMUP, FLOOR = 60, 7, 0.2
Made = Callable[[torch.optim.Optimizer], Any]
ORACLES: dict[Schedule, tuple[dict[str, Any], Made]] = {
    "constant": ({}, lambda o: theirs.get_constant_schedule_with_warmup(o, WARMUP)),
    "linear": ({}, lambda o: theirs.get_linear_schedule_with_warmup(o, WARMUP, STEPS)),
    "cosine": ({}, lambda o: theirs.get_cosine_schedule_with_warmup(o, WARMUP, STEPS)),
    "cosine_restarts": (
        {"cycles": 3},
        lambda o: theirs.get_cosine_with_hard_restarts_schedule_with_warmup(o, WARMUP, STEPS, 3),
    ),
    "polynomial": (
        {"power": 2.5, "floor": FLOOR},
        lambda o: theirs.get_polynomial_decay_schedule_with_warmup(o, WARMUP, STEPS, lr_end=FLOOR, power=2.5),
    ),
    "inverse_sqrt": ({}, lambda o: theirs.get_inverse_sqrt_schedule(o, WARMUP)),
}


def factors(made: Made) -> list[float]:
    """What transformers multiplies the rate with at each step, 0 to STEPS - 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    course = made(optimizer)
    found: list[float] = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        course.step()
    return found


@pytest.mark.parametrize("name", ORACLES)
def test_it_is_transformers(name: Schedule) -> None:
    """After the warm-up, step by step; in it a step ahead, so that no step is made at rate zero."""
    numbers, made = ORACLES[name]
    expected = factors(made)
    ours = pace(Optim(rate=1, schedule=name, warmup=WARMUP, **numbers), STEPS)
    found = [ours.factor(step) for step in range(STEPS)]
    assert found[: WARMUP - 1] == pytest.approx(expected[1:WARMUP])
    assert found[WARMUP - 1] == pytest.approx(1.0)
    assert found[WARMUP:] == pytest.approx(expected[WARMUP:])


def test_the_floor_is_transformers() -> None:
    course = factors(lambda o: theirs.get_cosine_with_min_lr_schedule_with_warmup(o, WARMUP, STEPS, min_lr_rate=FLOOR))
    ours = pace(Optim(rate=1, schedule="cosine", warmup=WARMUP, floor=FLOOR), STEPS)
    assert [ours.factor(step) for step in range(WARMUP, STEPS)] == pytest.approx(course[WARMUP:])
    for schedule in ("linear", "cosine_restarts", "polynomial"):
        assert Pace(10, 0, schedule=schedule, floor=0.3).factor(10) == pytest.approx(0.3)


def test_without_a_warm_up_the_root_begins_late() -> None:
    course = factors(lambda o: theirs.get_inverse_sqrt_schedule(o, 0))
    assert [Pace(STEPS, 0, schedule="inverse_sqrt").factor(step) for step in range(STEPS)] == pytest.approx(course)
    assert Pace(STEPS, 0, schedule="inverse_sqrt").factor(30_000) == pytest.approx(0.5)


def test_every_schedule_has_an_oracle_but_our_own() -> None:
    assert set(COURSES) == {*ORACLES, "cooldown"}
    assert Pace(100, 0, 20).factor(90) == pytest.approx(1 - math.sqrt(11 / 21))


def test_a_warm_up_in_steps_or_as_a_share() -> None:
    assert pace(Optim(rate=1, warmup=12), 200).warmup == 12
    assert pace(Optim(rate=1, warmup=1), 200).warmup == 1
    assert pace(Optim(rate=1, warmup=0.05), 200).warmup == 10
    assert pace(Optim(rate=1, warmup=0), 200).warmup == 0
    with pytest.raises(ValueError, match=r"optim.warmup = 1.5: give whole steps, or below 1 a share of the run"):
        Optim(rate=1, warmup=1.5)
    assert pace(Optim(rate=1, cooldown=0.3), 200).cooldown == 60
    assert pace(Optim(rate=1, cooldown=0.3, schedule="cosine"), 200).cooldown == 0
