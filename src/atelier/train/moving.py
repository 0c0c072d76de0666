"""A denoiser moved from the latents of one autoencoder to those of another.

What a denoiser knows of things and places lies between its first and its last layer. Latents of the same images are
nearly linear in each other, position by position; so the first layer is given the map from the new latents to the old
ones before it, and the last one the map back behind it. What the maps leave out, training adds in a few hundred steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from atelier.errors import BadInput
from atelier.models.vae import AutoencoderKL
from atelier.train.batches import stack
from atelier.train.recipe import Data
from atelier.train.sources import dataset
from atelier.train.starts import ENCODING, Vae, model_at, vae_at
from atelier.train.tasks.images import to_pixels

IMAGES, CHUNK = 384, 32
"""How many images tell the maps; encoded so many at a time."""
RIDGE = 1e-4
"""Keeps the map of a channel that says nothing small."""
FIRST, LAST = "conv_in", "conv_out"


def moved(stored: Mapping[str, Tensor], source: Path, own: Vae, data: Data) -> dict[str, Tensor]:
    """The weights `stored` of the model `source`, for latents of the autoencoder `own`.

    data: the images that the maps are fitted on, at the size of `own`. Raises BadInput where `source` is no whole
    model, and where its latents have other sides.
    """
    model = model_at(source)
    if model is None:
        raise BadInput(f"begin = {source}: its denoiser is one of other latents, and it is no model that has them")
    there = _latents(vae_at(source), data.model_copy(update={"size": model.size}))
    here = _latents(own, data)
    if there.shape[2:] != here.shape[2:]:
        raise BadInput(
            f"begin = {source}: its latents are {there.shape[3]}x{there.shape[2]}, those here "
            f"{here.shape[3]}x{here.shape[2]}: give data.size or an autoencoder that makes them equal"
        )
    tensors = dict(stored)
    tensors[f"{FIRST}.weight"] = torch.einsum("ockl,cn->onkl", stored[f"{FIRST}.weight"], linear(here, there))
    back = linear(there, here)
    tensors[f"{LAST}.weight"] = torch.einsum("nc,cikl->nikl", back, stored[f"{LAST}.weight"])
    tensors[f"{LAST}.bias"] = back @ stored[f"{LAST}.bias"]
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def same_latents(first: Vae, second: Vae) -> bool:
    """Whether both make the same latents of an image, but for the half precision in which a model is written."""
    names = [name for name in first.tensors if name.startswith(ENCODING)]
    return first.spec == second.spec and all(
        torch.equal(first.tensors[name].half(), second.tensors[name].half()) for name in names
    )


def linear(x: Tensor, y: Tensor) -> Tensor:
    """The matrix (C', C) that brings latents x (N, C, h, w) nearest to y (N, C', h, w), apart from their means."""
    rows, wanted = (t.movedim(1, -1).flatten(0, -2).double() for t in (x, y))
    rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], 1)
    gram = rows.T @ rows + RIDGE * len(rows) * torch.eye(rows.shape[1], dtype=rows.dtype)
    matrix = cast("Tensor", torch.linalg.solve(gram, rows.T @ wanted))
    return matrix[:-1].T.float()


@torch.no_grad()
def _latents(vae: Vae, data: Data) -> Tensor:
    net, images = AutoencoderKL(vae.spec), dataset(data, "train")
    net.load_state_dict(dict(vae.tensors))
    count = min(IMAGES, images.length or IMAGES)
    parts = [
        net.eval().encode(to_pixels(stack(images, range(i, min(i + CHUNK, count))), torch.device("cpu"))).mode()
        for i in range(0, count, CHUNK)
    ]
    return torch.cat(parts) * vae.latent_scale
