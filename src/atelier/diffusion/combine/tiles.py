"""Canvases larger than a network was trained for: views of them are denoised one by one, and averaged where they meet.

With weights that are equal but for a view's ends this is MultiDiffusion (Bar-Tal et al. 2023, arXiv:2302.08113,
equation 5), with Gaussian ones Mixture of Diffusers (Jimenez 2023, arXiv:2302.02412, section 3.1). The papers average
what a step leads to, and the noise that the network predicts; at one x and one sigma both are affine in the clean
latent, so averaging that is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atelier.diffusion.types import Combinator, Denoiser, Moment, Prediction, View

VARIANCE = 0.01
"""Of the Gaussian, where a view is 1 wide: that of Mixture of Diffusers."""

SLOPED = 0.25
"""Of a view of MultiDiffusion, at either end: half of the overlap that is usual."""

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


def sloped(height: int, width: int) -> Tensor:
    """Every position of a view counts the same, but towards its ends less and less: MultiDiffusion.

    The paper's own weights are all equal, with views that overlap by seven eighths. With fewer views, the edge that a
    network draws at the end of what it sees is half of the average there, and seen as a line.
    """
    down, across = (_slope(side) for side in (height, width))
    return down[:, None] * across[None, :]


def gaussian(height: int, width: int) -> Tensor:
    """The middle of a view counts most: Mixture of Diffusers."""
    down, across = (_bell(side) for side in (height, width))
    return down[:, None] * across[None, :]


def tiles(views: Views) -> Combinator:
    """Denoises each view alone and averages. A canvas that one view covers has the bits that it has without."""

    def combine(denoise: Denoiser) -> Denoiser:
        def tiled(x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction:
            places = _places(views, x)
            weights = views.weigh(places[0].height, places[0].width).to(x)
            calls = [places[i : i + views.at_once] for i in range(0, len(places), views.at_once)]
            made = [prediction for some in calls for prediction in _views(denoise, x, sigma, moment, some)]
            total = _summed([weights.expand(1, 1, -1, -1)] * len(places), places, x[:1, :1])
            shares = [weights / place.of(total) for place in places]
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


def _places(views: Views, x: Tensor) -> tuple[View, ...]:
    height, width = x.shape[2:]
    down = starts(height, views.height, views.overlap, wrap=views.wrap_y)
    across = starts(width, views.width, views.overlap, wrap=views.wrap_x)
    size = min(views.height, height), min(views.width, width)
    return tuple(View(top, left, *size) for top in down for left in across)


def _views(
    denoise: Denoiser, x: Tensor, sigma: Tensor, moment: Moment, places: tuple[View, ...]
) -> Sequence[Prediction]:
    """What the denoiser predicts of some views, all in one call."""
    repeated = sigma.repeat(len(places)) if sigma.ndim else sigma
    made = denoise(torch.cat([place.of(x) for place in places]), repeated, replace(moment, views=places))
    cleans = made.clean.chunk(len(places))
    unguided = [None] * len(places) if made.unguided is None else made.unguided.chunk(len(places))
    return [Prediction(clean, rest) for clean, rest in zip(cleans, unguided, strict=True)]


def _summed(parts: Sequence[Tensor], places: Sequence[View], like: Tensor) -> Tensor:
    total = torch.zeros_like(like)
    for part, place in zip(parts, places, strict=True):
        down, across = place.at(total)
        total[:, :, down[:, None], across] += part
    return total


def _slope(side: int) -> Tensor:
    """1 but for the outer SLOPED at either end, where it falls evenly to almost 0."""
    along = torch.arange(side, dtype=torch.float32)
    inwards = torch.minimum(along, along.flip(0)) + 0.5
    return (inwards / max(SLOPED * side, 0.5)).clamp(max=1)


def _bell(side: int) -> Tensor:
    """A Gaussian over `side` positions around their middle, in double precision so that no end is 0."""
    middle = (side - 1) / 2
    distances = (torch.arange(side, dtype=torch.float64) - middle) / side
    return torch.exp(-(distances**2) / (2 * VARIANCE)).float()
