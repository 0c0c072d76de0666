"""FreeU through the port for skip connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor

from atelier.diffusion.guidance.freeu import FreeuStage, free
from atelier.nn.ports import Ports, SkipPatch


def by_width(first: FreeuStage, second: FreeuStage, widths: Sequence[int], blocks: int) -> Ports:
    """The authors' rule: `first` acts where the features from below have the largest of the U-Net's widths, `second`
    where they have the next one (1280 and 640 in Stable Diffusion).

    blocks: residual blocks of a level on the way up.
    """
    known = sorted(set(widths), reverse=True)
    stages = dict(zip(known, (first, second), strict=False))
    return Ports(skips=dict.fromkeys(_places(range(len(widths)), blocks), partial(_matching, stages)))


def by_level(first: FreeuStage, second: FreeuStage, blocks: int) -> Ports:
    """diffusers' rule: `first` acts in the first level on the way up, `second` in the next."""
    patches: dict[str, SkipPatch] = {}
    for level, stage in enumerate((first, second)):
        patches |= dict.fromkeys(_places((level,), blocks), partial(_same, stage))
    return Ports(skips=patches)


def _places(levels: Sequence[int], blocks: int) -> list[str]:
    return [f"up.{level}.{block}" for level in levels for block in range(blocks)]


def _matching(stages: Mapping[int, FreeuStage], features: Tensor, skip: Tensor, /) -> tuple[Tensor, Tensor]:
    stage = stages.get(features.shape[1])
    return (features, skip) if stage is None else free(features, skip, stage)


def _same(stage: FreeuStage, features: Tensor, skip: Tensor, /) -> tuple[Tensor, Tensor]:
    return free(features, skip, stage)
