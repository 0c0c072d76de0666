"""Adaptive projected guidance: classifier-free guidance without the part that only adds contrast."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from atelier.diffusion.guidance.branches import Branches, Guess, Shape
from atelier.diffusion.guidance.spec import GuidanceSpec


@dataclass(frozen=True, slots=True)
class ApgOptions:
    """eta: what is kept of the part that is parallel to the prediction, 1 = all; threshold: the longest direction, as a
    norm over all of a sample's latent, 0 = any; momentum: of the directions of earlier calls, negative to lean away."""

    eta: float = 1.0
    threshold: float = 0.0
    momentum: float = 0.0


@dataclass(slots=True)
class _Earlier:
    """The running directions of the call before. A denoiser that is called several times at one moment (tiles) has
    several, in the order of its calls."""

    call: int = -1
    before: list[Tensor] = field(default_factory=list[Tensor])
    now: list[Tensor] = field(default_factory=list[Tensor])

    def follow(self, toward: Tensor, momentum: float, call: int) -> Tensor:
        if call != self.call:
            self.call, self.before, self.now = call, self.now, []
        place = len(self.now)
        known = self.before[place] if place < len(self.before) else None
        running = toward if known is None or known.shape != toward.shape else toward + momentum * known
        self.now.append(running)
        return running


def apg(options: ApgOptions) -> Shape:
    """Sadat et al. 2024 (arXiv:2410.02416), algorithm 1: clean = c + (scale - 1) * (orthogonal + eta * parallel),
    with the direction shortened to the threshold, after the momentum.

    It remembers the directions of the call before, in this denoiser alone.
    """
    earlier = _Earlier()

    def shape(given: Branches, guess: Guess) -> Guess:
        toward = guess.toward
        if options.momentum:
            toward = earlier.follow(toward, options.momentum, given.moment.call)
        cond = guess.base + guess.toward
        clean = cond + (guess.scale - 1) * projected(shortened(toward, options.threshold), cond, options.eta)
        return replace(guess, clean=clean)

    return shape


def shortened(toward: Tensor, threshold: float) -> Tensor:
    """Each sample's direction (B, ...), no longer than the threshold; 0 is none."""
    if not threshold:
        return toward
    length = _norm(toward)
    return toward * (threshold / length.clamp_min(threshold))


def projected(toward: Tensor, onto: Tensor, eta: float) -> Tensor:
    """The direction with the part that is parallel to `onto` taken eta times, in double precision."""
    wide, line = toward.double(), onto.double()
    line = line / _norm(line).clamp_min(torch.finfo(line.dtype).tiny)
    parallel = (wide * line).flatten(1).sum(1).reshape(_norm(wide).shape) * line
    return (wide + (eta - 1) * parallel).to(toward)


def _norm(x: Tensor) -> Tensor:
    return x.square().flatten(1).sum(1).sqrt().reshape(-1, *(1,) * (x.ndim - 1))


SPECS = (
    GuidanceSpec(
        "APG",
        {"apg_eta": 1.0, "apg_norm_threshold": 0.0, "apg_momentum": 0.0},
        {"apg_eta": 0.0, "apg_norm_threshold": 15.0, "apg_momentum": -0.5},
    ),
)
