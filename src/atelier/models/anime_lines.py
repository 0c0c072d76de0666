"""The network that draws the lines of anime images: pix2pix's U-Net (Isola 2017, arXiv:1611.07004, section 6.1.1) with
instance norms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LEAK = 0.2


@dataclass(frozen=True, slots=True)
class AnimeLinesSpec:
    """widths: channels after each halving of the resolution."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512, 512)

    @property
    def multiple(self) -> int:
        """Of the sides of an image: the network halves it so often."""
        return 2 ** len(self.widths)


class AnimeLines(nn.Module):
    """Dark lines on white. No norm has weights, and each sees one image alone."""

    def __init__(self, spec: AnimeLinesSpec) -> None:
        super().__init__()
        self.spec = spec
        inputs, deepest = (3, *spec.widths), len(spec.widths) - 1
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(inputs, spec.widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(b if n == deepest else 2 * b, a, 4, stride=2, padding=1)
            for n, (a, b) in enumerate(zip((1, *spec.widths), spec.widths, strict=False))
        )

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """x: RGB, -1 to 1, its sides multiples of `spec.multiple`. -1 is a line, 1 is none."""
        skips, (*most, deepest) = list[Tensor](), self.down
        for n, conv in enumerate(most):
            x = conv(x) if n == 0 else F.instance_norm(conv(F.leaky_relu(x, LEAK)))
            skips.append(x)
        x = deepest(F.leaky_relu(x, LEAK))
        for n, conv in reversed(list(enumerate(self.up))):
            x = conv(x.relu() if n == len(most) else torch.cat((skips[n], x), 1).relu())
            x = F.instance_norm(x) if n else x
        return x.tanh()
