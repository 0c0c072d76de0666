"""What a training starts from: the run folder of an earlier training, or a model in the diffusers layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.embedded import EMBEDDED, embedded_folder
from atelier.checkpoints.folder import INDEX
from atelier.checkpoints.opening import open_checkpoint
from atelier.errors import BadFile
from atelier.families.parts import PROJECTION, TEXT, UNET, VAE, VISION
from atelier.models.clip import TextSpec, VisionSpec
from atelier.models.vae import VaeSpec
from atelier.train.parts import SETTINGS, averaged_weights, part_settings, part_weights, spec_in

ENCODING = ("encoder.", "quant_conv.")
"""How the parameters of an autoencoder begin that make latents of images."""
TOKENIZER = "tokenizer"
"""The folder of the vocabulary, in a run and in a model."""


@dataclass(frozen=True, slots=True)
class Vae:
    """An autoencoder: its shape, its weights in float32, and what its latents are multiplied with."""

    spec: VaeSpec
    tensors: Mapping[str, Tensor]
    latent_scale: float


@dataclass(frozen=True, slots=True)
class Towers:
    """Both towers of a CLIP, each with its projection: shapes, weights of `Clip` in float32, the tokenizer's folder."""

    text: TextSpec
    vision: VisionSpec
    tensors: Mapping[str, Tensor]
    vocabulary: Path


def vae_at(source: Path) -> Vae:
    """The autoencoder of a run or of a model. Raises BadFile naming what has to be trained first."""
    model = model_at(source)
    if model is not None:
        return Vae(model.spec(VAE), model.tensors(VAE, torch.float32, mapped=False), model.latent.scale)
    settings = part_settings(source, "vae")
    spec, scale = spec_in(source, settings, "spec", VaeSpec), settings.get("latent_scale")
    if not isinstance(scale, float):
        raise BadFile(source / SETTINGS, "is damaged (latent_scale); run the same training again")
    return Vae(spec, part_weights(source), scale)


def towers_at(source: Path) -> Towers:
    """The towers of a run or of a model. Raises BadFile, also for a model that has no image encoder."""
    model = model_at(source)
    if model is not None:
        return towers_of(model)
    settings = part_settings(source, "clip")
    text, vision = spec_in(source, settings, "text", TextSpec), spec_in(source, settings, "vision", VisionSpec)
    return Towers(text, vision, part_weights(source), source / TOKENIZER)


def towers_of(model: Checkpoint) -> Towers:
    """The towers of a model that carries both and what they meet in. Raises BadFile for one that does not."""
    if not (model.has(VISION) and model.has(PROJECTION)):
        raise BadFile(model.path, "has no image encoder, or no projection of the text into its space")
    joint = model.load(PROJECTION, torch.float32)
    tensors = {
        **{f"text.{name}": tensor for name, tensor in model.tensors(TEXT, torch.float32, mapped=False).items()},
        "text.projection.weight": joint.text_projection.weight,
        **{f"vision.{name}": tensor for name, tensor in model.tensors(VISION, torch.float32, mapped=False).items()},
        "logit_scale": joint.logit_scale,
    }
    text = replace(model.spec(TEXT), projection=joint.spec.joint)
    return Towers(text, model.spec(VISION), tensors, model.path / TOKENIZER)


def unet_at(source: Path) -> Mapping[str, Tensor]:
    """The denoiser of a run (the averaged weights) or of a model, in float32. Raises BadFile."""
    model = model_at(source)
    return averaged_weights(source, "unet") if model is None else model.tensors(UNET, torch.float32, mapped=False)


def model_at(source: Path) -> Checkpoint | None:
    """The checkpoint that lies at `source`; None where that is the folder of a run. Raises BadFile."""
    if source.is_file():
        raise BadFile(
            source,
            "is a single file, and a training starts from a folder: a run's, or a model's "
            f"(`atelier models convert {source} FOLDER` makes one of it)",
        )
    if source == Path(EMBEDDED) and not source.exists():
        source = embedded_folder()
    return open_checkpoint(source) if (source / INDEX).is_file() else None
