"""Linear multistep on the probability flow ODE."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from torch import Tensor

from atelier.diffusion.sampling import Options, SamplerSpec, intervals, level, levels_of
from atelier.diffusion.solving import adams, combine
from atelier.diffusion.types import Model, NoiseSource, Sampler, Step

OWN = Options(order=4)


def lms(options: Options = OWN) -> Sampler:
    """Adams and Bashforth's method with steps of any length: the last slopes' polynomial in sigma, integrated.

    Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, section III.5; order 4 by default.
    """
    order = min(options.order, 4)

    def sample(denoise: Model, x: Tensor, sigmas: Tensor, _noise: NoiseSource) -> Iterator[Step]:
        levels, slopes = levels_of(sigmas), deque[Tensor](maxlen=order)
        for at in intervals(sigmas):
            clean = denoise(x, level(at.sigma, x)).clean
            slopes.appendleft((x - clean) / at.sigma)
            nodes = [levels[at.index - k] for k in range(len(slopes))]
            x = x + combine(adams(nodes, at.sigma, at.target), slopes)
            yield Step(at.index, at.total, x, clean)

    return sample


SPECS = (
    SamplerSpec(
        "LMS",
        lms,
        aliases=("k_lms", "LMSD", "LMSDiscreteScheduler"),
        order=2,
        uses=frozenset({"order"}),
        flow=True,
        own=OWN,
    ),
)
