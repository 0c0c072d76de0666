"""FreeU: more of a U-Net's backbone, less of the low frequencies of its skip connections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atelier.diffusion.guidance.spec import GuidanceSpec


@dataclass(frozen=True, slots=True)
class FreeuStage:
    """backbone: factor on half of the channels from below (b), skip: on the low frequencies from beside (s); adaptive:
    the backbone's factor follows the structure of the features (the authors' second version)."""

    backbone: float
    skip: float
    adaptive: bool = False

    @property
    def is_neutral(self) -> bool:
        return self.backbone == self.skip == 1


def free(features: Tensor, skip: Tensor, stage: FreeuStage) -> tuple[Tensor, Tensor]:
    """Si et al. 2023 (arXiv:2309.11497), section 3.2: features (B, C, h, w) from below and skip (B, K, h, w) from
    beside, both new; a factor of 1 leaves its half as it is, bit for bit."""
    return _amplified(features, stage), _filtered(skip, stage.skip)


def _amplified(features: Tensor, stage: FreeuStage) -> Tensor:
    """Equation 3; adaptive, equations 1 and 2: the factor goes from 1 to b with the mean over the channels."""
    if stage.backbone == 1:
        return features
    half = features.shape[1] // 2
    factor = (stage.backbone - 1) * _structure(features) + 1 if stage.adaptive else stage.backbone
    return torch.cat([features[:, :half] * factor, features[:, half:]], dim=1)


def _structure(features: Tensor) -> Tensor:
    """(B, 1, h, w): the mean over the channels, from 0 at its least to 1 at its most."""
    mean = features.mean(1, keepdim=True)
    low, high = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
    return (mean - low) / (high - low).clamp_min(torch.finfo(mean.dtype).tiny)


def _filtered(skip: Tensor, factor: float) -> Tensor:
    """Equations 4 and 5: low frequencies are -1 and 0 along each side, as in the authors' program."""
    if factor == 1:  # the way to frequencies and back is not exact
        return skip
    low = torch.ones(skip.shape[2:], device=skip.device)
    low[[[-1], [0]], [-1, 0]] = factor
    spectrum = torch.fft.fft2(skip.float()) * low  # pyright: ignore[reportUnknownVariableType] - untyped in torch
    return torch.fft.ifft2(spectrum).real.to(skip)  # pyright: ignore[reportUnknownVariableType] - the same


SPECS = (
    GuidanceSpec(
        "FreeU",
        {"freeu_b1": 1.0, "freeu_b2": 1.0, "freeu_s1": 1.0, "freeu_s2": 1.0},
        {"freeu_b1": 1.5, "freeu_b2": 1.6, "freeu_s1": 0.9, "freeu_s2": 0.2},
        frozenset({"U-Net"}),
    ),
)
