"""Stable Diffusion 2.0 and 2.1, base and 768, their inpainting model and their fine-tunes.

The text encoder is OpenCLIP-H, read before its last layer, through the final norm.
"""

from __future__ import annotations

from dataclasses import replace

from atelier.families import discrete, marks, pipelines, sd1
from atelier.families.config import Config
from atelier.families.facts import Facts, ModelDefaults, PredictionType, prediction_named
from atelier.families.family import Folder, SingleFile, Tower
from atelier.families.parts import UNET, VAE, unet
from atelier.families.parts.openclip import CLIP_H, cut_off, padded_with_zero
from atelier.weights.archive import Archive

TOWER = "cond_stage_model.model."
CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
OTHERS = ("depth_model.", "embedder.", "noise_augmentor.", "low_scale_model.")
"""What the names of the depth, unCLIP and upscaling models have beside."""
LATENT = 4
BASE, LARGE = 512, 768
BASE_STEPS = "875000"
"""Steps of training that the published 512-base was saved after, which its file says."""
OF_BASE = ("512", "base")
"""Said by the names of files that predict epsilon; Stability's are called so."""


def in_file(archive: Archive) -> bool:
    names = archive.tensors
    others = any(name.startswith(OTHERS) for name in names)
    return CONV_IN in names and not others and any(name.startswith(TOWER) for name in names)


def in_folder(index: Config) -> bool:
    """The class is that of Stable Diffusion 1.x; what we write says it, and others are told by their text states."""
    if index.values.get(sd1.OTHER) == "sd2":
        return True
    return sd1.is_named(index) and sd1.context(index) == sd1.SD2_CONTEXT


def file_facts(archive: Archive) -> Facts:
    """Nothing in the shapes tells the two predictions apart; see `_prediction`."""
    known = marks.file_facts(archive)
    prediction = _prediction(archive, known)
    return replace(
        known.knowing(UNET.name, unet.NARROW_HEADS),
        prediction=prediction,
        size=known.size or (LARGE if prediction == "velocity" else BASE),
        trailing=marks.is_turbo(archive),
    )


def _prediction(archive: Archive, known: Facts) -> PredictionType:
    """What the file says of its prediction, its size, its training or in its name; else velocity, as most were trained.

    All that see more than the latent (inpainting) and the Turbo model predict epsilon.
    """
    metadata, conv = archive.metadata, archive.tensors[CONV_IN].shape
    stated = prediction_named(metadata.get("modelspec.prediction_type", ""))
    if stated is not None or known.prediction == "velocity":
        return stated or known.prediction
    if known.size is not None:
        return "velocity" if known.size >= LARGE else "epsilon"
    sees_more = len(conv) == 4 and conv[1] > LATENT
    name = archive.path.stem.casefold()
    is_base = metadata.get("global_step") == BASE_STEPS or any(mark in name for mark in OF_BASE)
    return "epsilon" if sees_more or is_base or marks.is_turbo(archive) else "velocity"


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
    single=SingleFile(detect=in_file, facts=file_facts, tolerated=marks.tolerated, markers=marks.MARKERS),
    folder=Folder(
        detect=in_folder,
        pipeline=pipelines.by_channels("StableDiffusion"),
        index={
            sd1.OTHER: "sd2",
            "feature_extractor": [None, None],
            "safety_checker": [None, None],
            "requires_safety_checker": False,
        },
        read=discrete.read,
        write=discrete.write,
    ),
    defaults=defaults,
)
SPECS = (SD2,)
