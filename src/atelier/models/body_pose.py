"""OpenPose's network of bodies (Cao 2017, arXiv:1611.08050): maps of keypoints and of limbs between them, in stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LIMB_MAPS, POINT_MAPS = 38, 19
"""Two maps, across and down, for each of 19 limbs; one for each of 18 keypoints, and one for what is none."""


@dataclass(frozen=True, slots=True)
class BodyPoseSpec:
    """trunk: channels of VGG's four blocks; features: what the trunk gives; width, first: of the stages, and of the
    last but one layer of the first stage; stages: how many there are."""

    trunk: tuple[int, ...] = (64, 128, 256, 512)
    features: int = 128
    width: int = 128
    first: int = 512
    stages: int = 6


class Trunk(nn.Module):
    """The beginning of VGG-19, at an eighth of the resolution."""

    def __init__(self, spec: BodyPoseSpec) -> None:
        super().__init__()
        a, b, c, d = spec.trunk
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairs)
            for pairs in (
                ((3, a), (a, a)),
                ((a, b), (b, b)),
                ((b, c), (c, c), (c, c), (c, c)),
                ((c, d), (d, d), (d, c), (c, spec.features)),
            )
        )

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Tensor:
        for number, block in enumerate(self.blocks):
            x = F.max_pool2d(x, 2) if number else x
            for conv in block if isinstance(block, nn.ModuleList) else ():
                x = conv(x).relu()
        return x


class Branch(nn.Module):
    """Convolutions with rectifiers between them."""

    def __init__(self, layers: Iterator[nn.Conv2d]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        *most, last = self.layers
        for conv in most:
            x = conv(x).relu()
        return last(x)


class BodyPose(nn.Module):
    """Maps at an eighth of the resolution: of limbs, and of keypoints."""

    def __init__(self, spec: BodyPoseSpec) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = Trunk(spec)
        stages = range(spec.stages)
        self.limbs = nn.ModuleList(Branch(_layers(spec, stage, LIMB_MAPS)) for stage in stages)
        self.points = nn.ModuleList(Branch(_layers(spec, stage, POINT_MAPS)) for stage in stages)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b 38 i j"], Float[Tensor, "b 19 i j"]]:
        """x: channels blue, green, red, about -0.5 to 0.5; its sides multiples of 8. Keypoints are not below 0."""
        features = seen = self.trunk(x)
        limbs = points = features
        for limb, point in zip(self.limbs, self.points, strict=True):
            limbs, points = limb(seen), point(seen)
            seen = torch.cat((limbs, points, features), 1)
        return limbs, points.relu()


def _layers(spec: BodyPoseSpec, stage: int, maps: int) -> Iterator[nn.Conv2d]:
    """The first stage sees narrowly what the trunk found; the others see widely that and what the one before said."""
    if stage == 0:
        for channels in (spec.features, spec.width, spec.width):
            yield nn.Conv2d(channels, spec.width, 3, padding=1)
        yield nn.Conv2d(spec.width, spec.first, 1)
        yield nn.Conv2d(spec.first, maps, 1)
        return
    for channels in (LIMB_MAPS + POINT_MAPS + spec.features, *[spec.width] * 4):
        yield nn.Conv2d(channels, spec.width, 7, padding=3)
    yield nn.Conv2d(spec.width, spec.width, 1)
    yield nn.Conv2d(spec.width, maps, 1)
