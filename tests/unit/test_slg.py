"""Skip-layer guidance: where it acts, by whose weights, and through which port."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atelier.diffusion.guidance.branches import Branches
from atelier.diffusion.guidance.slg import slg
from atelier.diffusion.types import Moment, Prediction
from atelier.nn.ports import Ports, both


def _asked(progress: float) -> tuple[Tensor, list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """What it adds to two branches of 3 and 10, without the blocks 1 and 2, weighed 1 and 0.5; and what it called."""
    seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def without(x: Tensor, sigma: Tensor, _: Moment) -> Prediction:
        seen.append((tuple(x.shape), tuple(sigma.shape)))
        return Prediction(torch.cat([torch.full((2, 1, 1, 1), 1.0), torch.full((2, 1, 1, 1), 2.0)]))

    parts = torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), 10.0)
    x = torch.zeros(2, 1, 1, 1)
    given = Branches(x, torch.tensor([0.9, 0.8]), Moment(3, progress), parts, (1.0, 0.5))
    return slg(without, 2.5)(given), seen


def test_it_goes_away_from_the_branches_without_blocks_by_their_weights() -> None:
    added, seen = _asked(0.1)
    assert added.flatten().tolist() == [2.5 * (3 - 1 + 0.5 * (10 - 2))] * 2
    assert seen == [((4, 1, 1, 1), (4,))]


@pytest.mark.parametrize("progress", [0.0, 0.01, 0.2, 0.7])
def test_elsewhere_on_the_way_it_asks_nothing(progress: float) -> None:
    added, seen = _asked(progress)
    assert added.flatten().tolist() == [0.0, 0.0]
    assert seen == []


def test_what_two_leave_out_is_left_out() -> None:
    first, second = Ports(omitted=frozenset({"blocks.1"})), Ports(omitted=frozenset({"blocks.2"}))
    assert both(first, second).omitted == {"blocks.1", "blocks.2"}
