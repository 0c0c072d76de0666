"""What the guidances of one call hand to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from atelier.diffusion.types import Moment


@dataclass(frozen=True, slots=True)
class Branches:
    """A call of the denoiser, and what the network said to the prompt.

    x (B, C, h, w), sigma () or (B,), moment: as the denoiser was given them. parts: the clean predictions of the
    conditional branches, (B, C, h, w) each; weights: theirs.
    """

    x: Tensor
    sigma: Tensor
    moment: Moment
    parts: tuple[Tensor, ...]
    weights: tuple[float, ...]

    def toward(self, base: Tensor) -> Tensor:
        """The direction from `base` to the prompt: sum_k weights[k] (parts[k] - base)."""
        total = (self.parts[0] - base) * self.weights[0]
        for part, weight in zip(self.parts[1:], self.weights[1:], strict=True):
            total = total + (part - base) * weight
        return total


@dataclass(frozen=True, slots=True)
class Guess:
    """Guidance so far: away from `base`, along `toward`, as far as `scale`; clean: what that comes to.

    All (B, C, h, w). Without anything unusual clean = base + scale * toward.
    """

    base: Tensor
    toward: Tensor
    scale: float
    clean: Tensor


Shape = Callable[[Branches, Guess], Guess]
"""Changes how the branches are put together. It acts where there is classifier-free guidance."""
Term = Callable[[Branches], Tensor]
"""What is added to the clean prediction, (B, C, h, w). It acts with and without classifier-free guidance."""
