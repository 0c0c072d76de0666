"""Stable Diffusion 2.0 and 2.1, base and 768, their inpainting and depth models and their fine-tunes.

The text encoder is OpenCLIP-H, read before its last layer, through the final norm.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.families import discrete, marks, pipelines, sd1
from atelier.families.config import Config
from atelier.families.facts import Facts, ModelDefaults, PredictionType
from atelier.families.family import Folder, Probe, SingleFile, Tower
from atelier.families.parts import UNET, VAE, unet
from atelier.families.parts.openclip import CLIP_H, cut_off, padded_with_zero
from atelier.weights.archive import Archive

if TYPE_CHECKING:
    from atelier.models.unet import UNet

TOWER = "cond_stage_model.model."
OTHERS = ("embedder.", "noise_augmentor.", "low_scale_model.")
"""What the names of the unCLIP and upscaling models have beside."""
NOISE_LEVELS = "model.diffusion_model.label_emb.weight"
"""The embedding of levels of noise, which only the upscaling model's U-Net has."""
ESTIMATOR = "depth_model."
"""What the names of the estimator of depths begin with that a depth model's file carries: it is not read, the map is
given."""
PIPELINES = sd1.PIPELINES | {pipelines.DEPTH}
OTHER_CHANNELS = ((7,),)
"""What the U-Net of the upscaling model reads, should nothing else of it be left."""
LATENT = 4
BASE, LARGE = 512, 768
BASE_STEPS = "875000"
"""Steps of training that the published 512-base was saved after, which its file says."""
OF_BASE = ("512", "base")
"""Said by the names of files that predict epsilon; Stability's are called so."""
FIRST = (
    sd1.CONV_IN,
    sd1.CONV_IN.removeprefix("model."),
    "input_blocks.0.0.weight",
    "unet.conv_in.weight",
    "conv_in.weight",
)
"""The first layer of a U-Net in a model, and of one in a file of its own."""
LAST = 999
"""The level that a network is asked at: nearly all noise, which a network that predicts epsilon gives back."""


def in_file(archive: Archive) -> bool:
    names = archive.tensors
    others = NOISE_LEVELS in names or any(name.startswith(OTHERS) for name in names)
    if sd1.CONV_IN not in names or others or names[sd1.CONV_IN].shape[1:2] in OTHER_CHANNELS:
        return False
    converted = sd1.has_text(archive) and sd1.reads_sd2(archive)
    return converted or any(name.startswith(TOWER) for name in names)


def in_folder(index: Config) -> bool:
    named = index.values.get("_class_name")
    return isinstance(named, str) and named in PIPELINES and sd1.is_like_sd2(index)


def tolerated(name: str) -> bool:
    return marks.tolerated(name) or name.startswith(ESTIMATOR)


def file_facts(archive: Archive) -> Facts:
    """Nothing in the shapes tells the two predictions apart. Where the file says nothing, its name may; else it is
    velocity, as most were trained, until the network is asked."""
    known = replace(marks.file_facts(archive).knowing(UNET.name, unet.NARROW_HEADS), trailing=marks.is_turbo(archive))
    is_base = any(mark in archive.path.stem.casefold() for mark in OF_BASE)
    return _predicting(_said(archive) or ("epsilon" if is_base else "velocity"), known)


def _predicting(prediction: PredictionType, known: Facts) -> Facts:
    return replace(known, prediction=prediction, size=known.size or (LARGE if prediction == "velocity" else BASE))


def _said(archive: Archive) -> PredictionType | None:
    """What a file says of its prediction, its size or its training.

    All that see more than the latent (inpainting, depth) and the Turbo model predict epsilon.
    """
    known, stated = marks.file_facts(archive), marks.stated_prediction(archive)
    if stated is not None:
        return stated
    if known.size is not None:
        return "velocity" if known.size >= LARGE else "epsilon"
    conv = next((archive.tensors[name].shape for name in FIRST if name in archive.tensors), ())
    sees_more = len(conv) == 4 and conv[1] > LATENT
    is_base = archive.metadata.get("global_step") == BASE_STEPS
    return "epsilon" if sees_more or is_base or marks.is_turbo(archive) else None


def is_silent(archive: Archive) -> bool:
    return _said(archive) is None


def ask(net: UNet, known: Facts) -> Facts:
    """Shows the network one value everywhere at the last level (A1111's test). One that predicts epsilon gives about
    that value back; velocity is about its negative."""
    import torch

    from atelier.nn.ports import Conditioning

    x, tokens = torch.full((1, LATENT, 8, 8), 0.5), torch.full((1, 2, net.spec.context), 0.5)
    with torch.no_grad():
        answered = net(x, torch.tensor([float(LAST)]), Conditioning(tokens, guidance=torch.zeros(1)))
    is_velocity = float((answered - x).mean()) < -1
    return _predicting("velocity" if is_velocity else "epsilon", replace(known, size=None))


def defaults(size: int, facts: Facts) -> ModelDefaults:
    """Turbo was made for one step from the last level, without guidance."""
    if facts.trailing:
        return ModelDefaults("Euler a", steps=1, width=size, height=size, cfg_scale=1.0, scheduler="Turbo")
    return sd1.defaults(size, facts)


SD2 = replace(
    sd1.SD1,
    name="sd2",
    title="Stable Diffusion 2.x",
    aliases=("sd20", "sd21", "stable-diffusion-v2"),
    parts=(UNET, VAE, CLIP_H),
    towers=(Tower(CLIP_H, "tokenizer", padded_with_zero, least_skip=2, cut_off=cut_off),),
    single=SingleFile(detect=in_file, facts=file_facts, tolerated=tolerated, markers=marks.MARKERS),
    folder=Folder(
        detect=in_folder,
        pipeline=pipelines.by_channels("StableDiffusion", pipelines.DEPTH),
        index={"feature_extractor": [None, None], "safety_checker": [None, None], "requires_safety_checker": False},
        read=discrete.read,
        write=discrete.write,
    ),
    defaults=defaults,
    probe=Probe(is_silent, ask),
)
SPECS = (SD2,)
