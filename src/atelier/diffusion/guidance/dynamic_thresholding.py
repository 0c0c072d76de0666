"""Dynamic thresholding: a high CFG scale with the range of a lower one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atelier.diffusion.guidance.branches import Branches, Guess, Shape
from atelier.diffusion.guidance.spec import GuidanceSpec


@dataclass(frozen=True, slots=True)
class ThresholdOptions:
    """mimic: the CFG scale whose range is aimed at; percentile: 0 to 100, how much of the values stays unclamped where
    they go beyond that range; share: 0 to 1, of the outcome against plain guidance (the extension's phi)."""

    mimic: float
    percentile: float = 100.0
    share: float = 1.0


def dynamic_thresholding(options: ThresholdOptions) -> Shape:
    """Saharia et al. 2022 (arXiv:2205.11487), section 2.3, with the range of guidance at a lower scale for that of
    pixels: the rule of the web UI's extension (docs/guidance.md), channel by channel, from the channel's mean."""

    def shape(_: Branches, guess: Guess) -> Guess:
        mimic = guess.base + options.mimic * guess.toward
        within = thresholded(guess.clean, mimic, options.percentile)
        if options.share != 1:
            within = options.share * within + (1 - options.share) * guess.clean
        return replace(guess, clean=within)

    return shape


def thresholded(clean: Tensor, mimic: Tensor, percentile: float) -> Tensor:
    """clean (B, C, h, w) with its distances from each channel's mean clamped to the larger of the mimic's widest and
    the percentile of its own, and then scaled to the mimic's widest."""
    means, values = clean.mean((2, 3), keepdim=True), clean.flatten(2)
    centred = values - means.flatten(2)
    aimed = (mimic - mimic.mean((2, 3), keepdim=True)).flatten(2).abs().amax(2, keepdim=True)
    own = torch.quantile(centred.abs().float(), percentile / 100, dim=2, keepdim=True).to(clean)
    widest = torch.maximum(aimed, own).clamp_min(torch.finfo(clean.dtype).tiny)
    scaled = centred.clamp(-widest, widest) / widest * aimed
    return scaled.reshape(clean.shape) + means


SPECS = (GuidanceSpec("Dynamic thresholding", {"mimic_scale": 0.0}, {"mimic_scale": 3.0, "mimic_percentile": 99.0}),)
