"""Images as networks see them that were first trained on ImageNet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from atelier.vision.annotating import Pixels

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of its colours, red, green and blue."""


def seen(pixels: Pixels, device: torch.device) -> Tensor:
    """(1, 3, h, w) of (h, w, 3): of each colour the distance from the mean, in deviations."""
    import torch

    x = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1)[None].float() / 255
    mean, deviation = (torch.tensor(own, device=device).reshape(1, 3, 1, 1) for own in (MEAN, DEVIATION))
    return (x - mean) / deviation
