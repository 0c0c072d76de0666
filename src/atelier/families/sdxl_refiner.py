"""The refiner of Stable Diffusion XL: it finishes images at low levels of noise.

One text encoder, the second of the base model; it is told how good the image is to look in place of the target size.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.families import discrete, marks, sdxl
from atelier.families.config import Config
from atelier.families.facts import Facts
from atelier.families.family import Ends, Folder, SingleFile, Tower
from atelier.families.joining import side_by_side
from atelier.families.parts import UNET, VAE, unet
from atelier.families.parts.openclip import BIG_G, padded_with_zero
from atelier.families.telling import Telling, silent, with_sizes
from atelier.weights.archive import Archive

if TYPE_CHECKING:
    from atelier.families.facts import LatentFormat
    from atelier.nn.ports import Conditioning

TEXT = replace(BIG_G, title="text encoder", prefix="conditioner.embedders.0.")
TOWER = "conditioner.embedders.0.model."
WANTED, UNWANTED = 6.0, 2.5
"""Scores of looks, about 0 to 10, that prompt and negative prompt ask for: A1111's and diffusers' defaults."""


def in_file(archive: Archive) -> bool:
    names = archive.tensors
    has_other = any(name.startswith(BIG_G.prefix) for name in names)
    has_tower = any(name.startswith(TOWER) for name in names)
    return sdxl.CONV_IN in names and not has_other and has_tower


def in_folder(index: Config) -> bool:
    return sdxl.is_named(index) and not sdxl.has_first(index)


def pipeline(_: Ends, __: LatentFormat) -> str:
    return "StableDiffusionXLImg2ImgPipeline"


def file_facts(archive: Archive) -> Facts:
    known = marks.file_facts(archive)
    return replace(
        known.knowing(UNET.name, unet.NARROW_HEADS), size=known.size or sdxl.SIZE, latent_scale=sdxl.LATENT_SCALE
    )


def tell(said: Conditioning, told: Telling) -> Conditioning:
    """Height and width of the original, top and left of the crop, and the score."""
    said = silent(said) if told.negative and told.empty else said
    score = (UNWANTED if told.negative else WANTED) if told.said.score is None else told.said.score
    return with_sizes(said, *told.original, told.said.top, told.said.left, score)


REFINER = replace(
    sdxl.SDXL,
    name="sdxl-refiner",
    title="Stable Diffusion XL refiner",
    aliases=("sdxl_refiner",),
    parts=(UNET, VAE, TEXT),
    towers=(Tower(TEXT, "tokenizer_2", padded_with_zero, least_skip=2, normed=False),),
    join=side_by_side(pooled=0),
    single=SingleFile(detect=in_file, facts=file_facts, tolerated=marks.tolerated, markers=marks.MARKERS),
    folder=Folder(
        detect=in_folder,
        pipeline=pipeline,
        index={
            "force_zeros_for_empty_prompt": False,
            "requires_aesthetics_score": True,
            "text_encoder": [None, None],
            "tokenizer": [None, None],
        },
        read=discrete.read,
        write=discrete.write,
    ),
    tell=tell,
)
SPECS = (REFINER,)
