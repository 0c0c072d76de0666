"""Fitting the matrix that shows latents without an autoencoder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from PIL import Image

from atelier.checkpoints.preview import RgbMatrix
from atelier.families.facts import LatentFormat
from atelier.models.vae import AutoencoderKL
from atelier.pipeline.decoding import encode_image
from atelier.train.tasks.images import to_pixels


@torch.no_grad()
def fitted(images: Iterable[Image.Image], vae: AutoencoderKL, latent: LatentFormat) -> RgbMatrix:
    """The least-squares matrix from the latents of images (RGB) to their colours, averaged over each position."""
    known: list[torch.Tensor] = []
    wanted: list[torch.Tensor] = []
    for image in images:
        positions = encode_image(image, vae, latent, strips="never")[0].flatten(1).T
        known.append(torch.cat([positions, torch.ones(len(positions), 1)], 1))
        wanted.append(_colours(image, latent.factor))
    solved = cast("torch.Tensor", torch.linalg.lstsq(torch.cat(known).double(), torch.cat(wanted).double()).solution)
    rows = cast("list[tuple[float, float, float]]", solved.tolist())
    return RgbMatrix(tuple((r, g, b) for r, g, b in rows))


def _colours(image: Image.Image, factor: int) -> torch.Tensor:
    """(positions, 3), 0 to 1."""
    import numpy as np

    pixels = to_pixels(np.array(image)[None]) / 2 + 0.5
    return F.avg_pool2d(pixels, factor)[0].flatten(1).T
