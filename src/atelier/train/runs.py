"""What finished trainings leave for each other and for painting: the averaged weights, and what goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atelier.errors import BadFile
from atelier.families.facts import Facts
from atelier.families.write import Modules, write_diffusers
from atelier.models.clip import ClipText, TextSpec, VisionSpec
from atelier.models.unet import UNet
from atelier.models.vae import AutoencoderKL, VaeSpec
from atelier.train import checkpoint
from atelier.train.parts import WEIGHTS, part_settings, part_weights, write_part
from atelier.train.recipe import ClipRecipe, DenoiserRecipe, VaeRecipe
from atelier.train.tasks.clip import Clip, text_spec, vision_spec
from atelier.train.tasks import denoiser
from atelier.train.tasks.denoiser import Frozen
from atelier.train.tasks.images import dataset
from atelier.train.tasks.vae import latent_scale, spec_of
from atelier.weights.tokenizer import ClipTokenizer

TOKENIZER, MODEL = "tokenizer", "model"


def export_vae(run: Path, recipe: VaeRecipe) -> Path:
    """Writes the averaged autoencoder of the newest checkpoint, with its measured latent scale."""
    spec, tensors = spec_of(recipe), _averaged(run, "vae")
    vae = AutoencoderKL(spec)
    vae.load_state_dict(dict(tensors))
    scale = latent_scale(vae.eval(), dataset(recipe.data, "train"))
    return write_part(run, tensors, {"kind": "vae", "spec": asdict(spec), "latent_scale": scale})


def export_clip(run: Path, recipe: ClipRecipe) -> Path:
    """Writes the averaged towers of the newest checkpoint; the vocabulary already lies beside them."""
    vocabulary = ClipTokenizer.from_folder(run / TOKENIZER)
    specs = {"text": asdict(text_spec(recipe, vocabulary)), "vision": asdict(vision_spec(recipe))}
    return write_part(run, _averaged(run, "clip"), {"kind": "clip", **specs})


def frozen(vae_run: Path, clip_run: Path) -> Frozen:
    """What the denoiser's training takes from the first two. Raises BadFile naming the training that is missing."""
    settings = part_settings(vae_run, "vae")
    clip = load_clip(clip_run)
    vae = AutoencoderKL(VaeSpec(**_tuples(settings["spec"])))
    vae.load_state_dict(part_weights(vae_run))
    return Frozen(vae, vae_run / WEIGHTS, float(settings["latent_scale"]), clip.text, clip_run / TOKENIZER)


def export_model(run: Path, recipe: DenoiserRecipe) -> Path:
    """Writes the whole model as a diffusers folder: the averaged U-Net with the networks it was trained upon."""
    parts, clip = frozen(Path(recipe.vae), Path(recipe.clip)), load_clip(Path(recipe.clip))
    unet = UNet(denoiser.spec_of(recipe, parts.vae.spec.latent, clip.text.spec.width))
    unet.load_state_dict(dict(_averaged(run, "unet")))
    text = ClipText(replace(clip.text.spec, projection=None))
    text.load_state_dict({n: t for n, t in clip.text.state_dict().items() if not n.startswith("projection.")})
    assert clip.text.projection is not None
    model = Modules(
        unet=unet,
        vae=parts.vae,
        text=text,
        tokenizer=ClipTokenizer.from_folder(parts.vocabulary),
        facts=Facts(prediction=recipe.loss.prediction, size=recipe.data.size, latent_scale=parts.latent_scale),
        vision=clip.vision,
        projection={"text_projection.weight": clip.text.projection.weight.data, "logit_scale": clip.logit_scale.data},
    )
    write_diffusers(model, run / MODEL, torch.float16, overwrite=True)
    return run / MODEL


def load_clip(run: Path) -> Clip:
    settings = part_settings(run, "clip")
    clip = Clip(TextSpec(**settings["text"]), VisionSpec(**settings["vision"]))
    clip.load_state_dict(part_weights(run))
    return clip.eval()


def _averaged(run: Path, name: str) -> Mapping[str, Tensor]:
    newest = checkpoint.newest(run / "checkpoints")
    if newest is None:
        raise BadFile(run, "holds no whole checkpoint; train first")
    return checkpoint.load(newest).tensors[f"{name}.ema"]


def _tuples(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()}
