"""Views and regions as combinators: what is asked, and how the answers are put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from atelier.diffusion.combine.regions import Ground, on_ground, regions
from atelier.diffusion.combine.tiles import Views, equal, gaussian, starts, tiles
from atelier.diffusion.types import Moment, Prediction

NOW = Moment(0, 0.0)
SIGMA = torch.tensor(2.0)


@dataclass
class Asked:
    """A denoiser that remembers what it was shown, and answers with a function of it."""

    answer: Callable[[Tensor], Tensor] = lambda x: x
    unguided: bool = False
    seen: list[tuple[Tensor, Tensor, Moment]] = field(default_factory=list[tuple[Tensor, Tensor, Moment]])

    def __call__(self, x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
        self.seen.append((x.clone(), sigma, moment))
        return Prediction(self.answer(x), x - 1 if self.unguided else None)


def canvas(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.arange(batch * 3 * height * width, dtype=torch.float32).reshape(batch, 3, height, width)


@pytest.mark.parametrize(
    ("side", "view", "overlap", "wrap", "expected"),
    [
        (64, 64, 32, False, (0,)),
        (40, 64, 32, False, (0,)),
        (128, 64, 32, False, (0, 32, 64)),
        (128, 64, 0, False, (0, 64)),
        (100, 64, 16, False, (0, 36)),
        (130, 64, 16, False, (0, 33, 66)),
        (128, 64, 32, True, (0, 32, 64, 96)),
        (128, 96, 0, True, (0, 64)),
        (64, 64, 0, True, (0,)),
    ],
)
def test_where_views_begin(side: int, view: int, overlap: int, wrap: bool, expected: tuple[int, ...]) -> None:
    assert starts(side, view, overlap, wrap=wrap) == expected


@pytest.mark.parametrize("side", range(5, 60, 7))
@pytest.mark.parametrize("overlap", [0, 1, 3])
def test_views_leave_no_gap_and_overlap_enough(side: int, overlap: int) -> None:
    found = starts(side, 4, overlap, wrap=False)
    assert (found[0], found[-1]) == (0, max(side - 4, 0))
    assert all(0 < b - a <= 4 - overlap for a, b in pairwise(found))


@pytest.mark.parametrize("weigh", [equal, gaussian])
@pytest.mark.parametrize("wrap", [False, True])
def test_one_view_has_the_bits_of_none(weigh: Callable[[int, int], Tensor], wrap: bool) -> None:
    x = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    net = Asked(torch.sin, unguided=True)
    views = Views(height=8, width=9, overlap=2, weigh=weigh, wrap_x=wrap, wrap_y=wrap)
    made = tiles(views)(net)(x, SIGMA, NOW)
    assert made.unguided is not None
    assert torch.equal(made.clean, torch.sin(x))
    assert torch.equal(made.unguided, x - 1)
    assert [tuple(seen.shape) for seen, *_ in net.seen] == [(2, 3, 7, 9)]


def test_every_view_is_asked_for_once_at_one_moment() -> None:
    net, x = Asked(), canvas(4, 10, 2)
    made = tiles(Views(height=4, width=4, overlap=1, weigh=equal))(net)(x, SIGMA, Moment(3, 0.5))
    assert [seen[0, 0, 0, 0].item() for seen, *_ in net.seen] == [0, 3, 6]
    assert {moment for *_, moment in net.seen} == {Moment(3, 0.5)}
    assert [across.tolist() for *_, moment in net.seen for _, across in moment.places] == [
        [0, 1, 2, 3],
        [3, 4, 5, 6],
        [6, 7, 8, 9],
    ]
    assert torch.allclose(made.clean, x)
    assert made.unguided is None


def test_several_views_are_one_call() -> None:
    net, x = Asked(), canvas(4, 10, 2)
    sigma = torch.tensor([1.0, 2.0])
    made = tiles(Views(height=4, width=4, overlap=1, weigh=equal, at_once=2))(net)(x, sigma, NOW)
    assert [len(seen) for seen, *_ in net.seen] == [4, 2]
    first, first_sigma, _ = net.seen[0]
    assert torch.equal(first[:2], x[..., 0:4])
    assert torch.equal(first[2:], x[..., 3:7])
    assert first_sigma.tolist() == [1.0, 2.0, 1.0, 2.0]
    assert torch.allclose(made.clean, x)


def numbered(weigh: Callable[[int, int], Tensor], **how: bool) -> Tensor:
    """The first row of a canvas of 6 whose two views of 4 answer 10 and 20."""
    answers = iter((10.0, 20.0))
    net = Asked(lambda x: torch.full_like(x, next(answers)))
    views = Views(height=1, width=4, overlap=1, weigh=weigh, **how)
    return tiles(views)(net)(torch.zeros(1, 1, 1, 6), SIGMA, NOW).clean[0, 0, 0]


def test_overlaps_are_averaged() -> None:
    assert numbered(equal).tolist() == [10, 10, 15, 15, 20, 20]


def test_the_middle_of_a_view_counts_most() -> None:
    """exp(-d^2 / 0.02) with d = 1/8 and 3/8: at position 2 the first view is near, at 3 the second."""
    near, far = 2.718281828**-0.78125, 2.718281828**-7.03125
    expected = (10 * near + 20 * far) / (near + far)
    assert numbered(gaussian)[2].item() == pytest.approx(expected, abs=1e-4)
    assert numbered(gaussian)[3].item() == pytest.approx(30 - expected, abs=1e-4)


def test_views_go_over_the_edge() -> None:
    """0 to 3, and 3 to 5 with 0."""
    assert numbered(equal, wrap_x=True).tolist() == [15, 10, 10, 15, 20, 20]


def test_gaussian_weights_are_never_nothing() -> None:
    assert bool((gaussian(96, 128) > 0).all())


def half(value: float, left: bool) -> Tensor:
    mask = torch.zeros(1, 1, 1, 4)
    mask[..., slice(0, 2) if left else slice(2, 4)] = value
    return mask


def constant(value: float) -> Asked:
    return Asked(lambda x: torch.full_like(x, value))


def test_each_mask_takes_its_own() -> None:
    made = regions([(half(1, left=True), constant(1)), (half(3, left=False), constant(2))])(
        torch.zeros(2, 1, 1, 4), SIGMA, NOW
    )
    assert made.clean[1, 0, 0].tolist() == [1, 1, 2, 2]
    assert made.unguided is None


def test_where_masks_overlap_their_weights_count() -> None:
    everywhere = torch.ones(1, 1, 1, 4)
    parts = [(everywhere, constant(0)), (3 * half(1, left=True), constant(8)), (half(0.5, left=False), constant(3))]
    assert regions(parts)(torch.zeros(1, 1, 1, 4), SIGMA, NOW).clean[0, 0, 0].tolist() == [6, 6, 1, 1]


def test_one_region_has_the_bits_of_none() -> None:
    x = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    net = Asked(torch.sin, unguided=True)
    made = regions([(torch.full((1, 1, 5, 5), 0.3), net)])(x, SIGMA, NOW)
    assert made.unguided is not None
    assert torch.equal(made.clean, torch.sin(x))
    assert torch.equal(made.unguided, x - 1)


def test_a_region_stands_on_flat_colours_at_first() -> None:
    """Outside of the mask it sees colour + sigma noise, another colour at each call; inside of it x, and after a share
    of the calls all of x."""
    colours, noise = torch.tensor([100.0, 200.0]).reshape(2, 1, 1, 1), torch.tensor([[[[0.5, 1.0, 2.0, 3.0]]]])
    ground = Ground(colours, noise, lambda clean, unit, sigma: clean + sigma * unit, 0.5)
    net, x = Asked(), torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    denoise = on_ground(half(1, left=True), ground, 1)(net)
    for call, progress in enumerate((0.0, 0.25, 0.5)):
        denoise(x, SIGMA, Moment(call, progress))
    assert [seen.flatten().tolist() for seen, *_ in net.seen] == [[1, 2, 204, 206], [1, 2, 104, 106], [1, 2, 3, 4]]
