"""Canvases larger than a network was trained for: views of them are denoised one by one, and averaged where they meet.

With equal weights this is MultiDiffusion (Bar-Tal et al. 2023, arXiv:2302.08113, equation 5), with Gaussian ones
Mixture of Diffusers (Jimenez 2023, arXiv:2302.02412, section 3.1). The papers average what a step leads to, and the
noise that the network predicts; at one x and one sigma both are affine in the clean latent, so averaging that is the
same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atelier.diffusion.types import Combinator, Denoiser, Moment, Prediction

VARIANCE = 0.01
"""Of the Gaussian, where a view is 1 wide: that of Mixture of Diffusers."""

Weigh = Callable[[int, int], Tensor]
"""(height, width) of a view in positions -> the weights of its positions (h, w), all above 0."""


@dataclass(frozen=True, slots=True)
class Views:
    """How a canvas is covered. Lengths are in positions of the latent.

    height, width: of a view, cut to the canvas; overlap: at least so much of two neighbours is the same; weigh: what
    each position of a view counts; wrap_x, wrap_y: whether views go over the edge and on at the opposite one;
    at_once: views in one call of the denoiser.
    """

    height: int
    width: int
    overlap: int
    weigh: Weigh
    wrap_x: bool = False
    wrap_y: bool = False
    at_once: int = 1


def equal(height: int, width: int) -> Tensor:
    """Every position of a view counts the same: MultiDiffusion."""
    return torch.ones(height, width)


def gaussian(height: int, width: int) -> Tensor:
    """The middle of a view counts most: Mixture of Diffusers."""
    down, across = (_bell(side) for side in (height, width))
    return down[:, None] * across[None, :]


def tiles(views: Views) -> Combinator:
    """Denoises each view alone and averages. A canvas that one view covers has the bits that it has without."""

    def combine(denoise: Denoiser) -> Denoiser:
        def tiled(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
            rows, columns = _places(views, x)
            places = [(down, across) for down in rows for across in columns]
            weights = views.weigh(len(rows[0]), len(columns[0])).to(x)
            calls = [places[i : i + views.at_once] for i in range(0, len(places), views.at_once)]
            made = [prediction for some in calls for prediction in _views(denoise, x, sigma, moment, some)]
            total = _summed([weights.expand(1, 1, -1, -1)] * len(places), places, x[:1, :1])
            shares = [weights / _view(total, place) for place in places]
            clean = [p.clean * share for p, share in zip(made, shares, strict=True)]
            unguided = [p.unguided * share for p, share in zip(made, shares, strict=True) if p.unguided is not None]
            return Prediction(_summed(clean, places, x), _summed(unguided, places, x) if unguided else None)

        return tiled

    return combine


def starts(side: int, view: int, overlap: int, *, wrap: bool) -> tuple[int, ...]:
    """Where the views of one axis begin: as few as overlap enough, evenly spaced, the last one at the end."""
    if view >= side:
        return (0,)
    stride = view - overlap
    if wrap:
        count = math.ceil(side / stride)
        return tuple(number * side // count for number in range(count))
    count = math.ceil((side - overlap) / stride)
    return tuple(number * (side - view) // (count - 1) for number in range(count))


Place = tuple[Tensor, Tensor]
"""Of a view in x: its rows and its columns."""


def _places(views: Views, x: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return (
        _axis(x.shape[2], views.height, views.overlap, wrap=views.wrap_y, x=x),
        _axis(x.shape[3], views.width, views.overlap, wrap=views.wrap_x, x=x),
    )


def _axis(side: int, view: int, overlap: int, *, wrap: bool, x: Tensor) -> Sequence[Tensor]:
    along = torch.arange(min(view, side), device=x.device)
    return [(along + start) % side for start in starts(side, view, overlap, wrap=wrap)]


def _views(
    denoise: Denoiser, x: Tensor, sigma: Tensor, moment: Moment, places: Sequence[Place]
) -> Sequence[Prediction]:
    """What the denoiser predicts of some views, all in one call."""
    repeated = sigma.repeat(len(places)) if sigma.ndim else sigma
    there = replace(moment, places=tuple(places))
    made = denoise(torch.cat([_view(x, place) for place in places]), repeated, there)
    cleans = made.clean.chunk(len(places))
    unguided = [None] * len(places) if made.unguided is None else made.unguided.chunk(len(places))
    return [Prediction(clean, rest) for clean, rest in zip(cleans, unguided, strict=True)]


def _view(x: Tensor, place: Place) -> Tensor:
    down, across = place
    return x[:, :, down[:, None], across]


def _summed(parts: Sequence[Tensor], places: Sequence[Place], like: Tensor) -> Tensor:
    total = torch.zeros_like(like)
    for part, (down, across) in zip(parts, places, strict=True):
        total[:, :, down[:, None], across] += part
    return total


def _bell(side: int) -> Tensor:
    """A Gaussian over `side` positions around their middle, in double precision so that no end is 0."""
    middle = (side - 1) / 2
    distances = (torch.arange(side, dtype=torch.float64) - middle) / side
    return torch.exp(-(distances**2) / (2 * VARIANCE)).float()
