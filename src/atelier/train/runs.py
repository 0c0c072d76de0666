"""What finished trainings leave for each other and for generating: the averaged weights, and what goes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from atelier.checkpoints.write import Modules, write_diffusers
from atelier.families.facts import Facts
from atelier.families.sd1 import SD1
from atelier.models.clip import ClipJoint, ClipText, JointSpec
from atelier.models.unet import UNet
from atelier.models.vae import AutoencoderKL
from atelier.train.folder import MODEL
from atelier.train.parts import averaged_weights, write_part
from atelier.train.recipes.clip import ClipRecipe
from atelier.train.recipes.denoiser import DenoiserRecipe
from atelier.train.recipes.vae import VaeRecipe
from atelier.train.sources import dataset
from atelier.train.starts import TOKENIZER, towers_at, vae_at
from atelier.train.tasks import denoiser
from atelier.train.tasks.clip import assembled, text_spec, vision_spec
from atelier.train.tasks.denoiser import Frozen
from atelier.train.tasks.vae import latent_scale, spec_of
from atelier.weights.load import load_into
from atelier.weights.tokenizer import ClipTokenizer


def export_vae(run: Path, recipe: VaeRecipe) -> Path:
    """Writes the averaged autoencoder of the newest checkpoint, with its measured latent scale."""
    kept: Mapping[str, Tensor] = vae_at(Path(recipe.begin)).tensors if recipe.learn == "decoder" else {}
    spec, tensors = spec_of(recipe), {**kept, **averaged_weights(run, "vae")}
    vae = load_into(lambda: AutoencoderKL(spec), tensors, source=run)
    scale = latent_scale(vae, dataset(recipe.data, "train"))
    return write_part(run, tensors, {"kind": "vae", "spec": asdict(spec), "latent_scale": scale})


def export_clip(run: Path, recipe: ClipRecipe) -> Path:
    """Writes the averaged towers of the newest checkpoint; the vocabulary already lies beside them."""
    vocabulary = ClipTokenizer.from_folder(run / TOKENIZER)
    specs = {"text": asdict(text_spec(recipe, vocabulary)), "vision": asdict(vision_spec(recipe))}
    kept: Mapping[str, Tensor] = towers_at(Path(recipe.begin)).tensors if recipe.begin else {}
    return write_part(run, {**kept, **averaged_weights(run, "clip")}, {"kind": "clip", **specs})


def frozen(vae_run: Path, clip_run: Path) -> Frozen:
    """What the denoiser's training takes from the first two, each a run or a model.

    Raises BadFile naming the training that is missing.
    """
    start, towers = vae_at(vae_run), towers_at(clip_run)
    vae = load_into(lambda: AutoencoderKL(start.spec), start.tensors, source=vae_run)
    return Frozen(vae, vae_run, start.latent_scale, assembled(towers).text, towers.vocabulary)


def export_model(run: Path, recipe: DenoiserRecipe) -> Path:
    """Writes the whole model as a diffusers folder: the averaged U-Net with the networks it was trained upon."""
    parts, clip = frozen(Path(recipe.vae), Path(recipe.clip)), assembled(towers_at(Path(recipe.clip)))
    spec = denoiser.spec_of(recipe, parts.vae.spec.latent, clip.text.spec.width)
    unet = load_into(lambda: UNet(spec), averaged_weights(run, "unet"), source=run)
    states = {n: t for n, t in clip.text.state_dict().items() if not n.startswith("projection.")}
    text = load_into(lambda: ClipText(replace(clip.text.spec, projection=None)), states)
    assert clip.text.projection is not None
    joint = ClipJoint(JointSpec(clip.text.spec.width, clip.text.projection.out_features))
    joint.load_state_dict({"text_projection.weight": clip.text.projection.weight, "logit_scale": clip.logit_scale})
    model = Modules(
        family=SD1,
        networks={"unet": unet, "vae": parts.vae, "text": text, "vision": clip.vision, "projection": joint},
        tokenizers=(ClipTokenizer.from_folder(parts.vocabulary),),
        facts=Facts(
            prediction=recipe.loss.prediction,
            size=recipe.data.size,
            latent_scale=parts.latent_scale,
            cfg_scale=recipe.cfg_scale,
            zero_snr=recipe.loss.zero_snr,
        ),
    )
    write_diffusers(model, run / MODEL, torch.float16, overwrite=True)
    return run / MODEL
