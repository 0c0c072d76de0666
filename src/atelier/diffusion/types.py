"""The words of diffusion: what a denoiser predicts, what a sampler yields, what a schedule is.

Everything here works on batches of latents `x` of shape (B, C, h, w); a level of noise `sigma` is a tensor of shape ()
or (B,). Nothing knows of networks, prompts, devices or progress bars.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a denoiser thinks of x: the clean latent after guidance, and what it would be without any guidance."""

    clean: Tensor
    unguided: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """When a denoiser is called: what prompts, guidance and adapters may depend on.

    call: how many calls of the sampler came before; progress: their share of all that are expected, 0 to 1; places:
    which parts of the canvas x holds, one after another, each as its rows and columns; () for all of it.
    """

    call: int
    progress: float
    places: tuple[tuple[Tensor, Tensor], ...] = field(default=(), compare=False)  # tensors compare one by one


class Denoiser(Protocol):
    """E[clean | x, sigma] for x (B, C, h, w) and sigma () or (B,), as composed: of a network, guidance, masks, tiles.

    A combinator takes denoisers and gives one; it hands the moment that it was given to those inside.
    """

    def __call__(self, x: Tensor, sigma: Tensor, moment: Moment, /) -> Prediction: ...


Model = Callable[[Tensor, Tensor], Prediction]
"""What a sampler sees: (x, sigma) -> prediction."""
Combinator = Callable[[Denoiser], Denoiser]


NoiseSource = Callable[[Tensor, Tensor], Tensor]
"""(sigma, next sigma), both of shape () -> unit noise (B, C, h, w). It owns all randomness of a sampler."""


@dataclass(frozen=True, slots=True)
class Step:
    """The state after step `index` (0-based) of `total`: x at the next level, and the clean prediction that led there.

    `total` is an estimate where a sampler chooses its own step size (DPM adaptive).
    """

    index: int
    total: int
    x: Tensor
    clean: Tensor


Sampler = Callable[[Model, Tensor, Tensor, NoiseSource], Iterator[Step]]
"""(model, x at the first level, descending sigmas (n+1,), noise) -> one Step per transition."""


class Levels(Protocol):
    """A model's levels of noise: the table it was trained on, and the way between sigma and the network's time t."""

    @property
    def sigmas(self) -> Tensor:
        """The table, ascending, float32 (T,)."""
        ...

    @property
    def sigma_min(self) -> float: ...

    @property
    def sigma_max(self) -> float: ...

    def sigma(self, t: Tensor) -> Tensor:
        """The level at position t of the table, any shape."""
        ...

    def t(self, sigma: Tensor) -> Tensor:
        """The time that the network reads at level sigma, any shape; the inverse of `sigma` but for flow models."""
        ...


Schedule = Callable[[Levels, int], Tensor]
"""(levels, n steps) -> n+1 sigmas, float32, descending, ending in 0."""
