"""Stable Diffusion XL (Podell 2023, arXiv:2307.01952), its inpainting and Turbo variants and its fine-tunes.

Two text encoders, whose states before the last layer stand side by side without a final norm; the pooled state of the
second, and sizes of the image, are a second condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from atelier.errors import BadFile
from atelier.families import discrete, marks, pipelines
from atelier.families.config import Config
from atelier.families.facts import Facts, ModelDefaults, PartFacts
from atelier.families.family import Family, Folder, SingleFile, Tower
from atelier.families.joining import side_by_side
from atelier.families.part import PartSpec, Settings, Surroundings
from atelier.families.parts import TEXT, UNET, VAE, autoencoder, clip, unet
from atelier.families.parts.clip import clip_l
from atelier.families.parts.openclip import BIG_G, padded_with_zero
from atelier.families.shapes import Shapes
from atelier.families.telling import Telling, silent, with_sizes
from atelier.weights.archive import Archive

if TYPE_CHECKING:
    from atelier.models.clip import TextSpec
    from atelier.nn.ports import Conditioning

LAYERS, WIDTH = 12, 768
"""Of the published first text encoder."""
FINAL_NORM = "final_layer_norm.weight"
CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
PIPELINES = pipelines.named("StableDiffusionXL")
SIZE, TURBO_SIZE = 1024, 512
LATENT_SCALE = 0.13025
EDM = (("edm_vpred.", "CosXL"), ("edm_mean", "Playground 2.5"))
"""What the names of further levels of noise begin with, and who has them."""


def infer_first(shapes: Shapes, facts: PartFacts) -> TextSpec:
    """As of any tower; the norm behind its last layer, which is not read, may be missing. Raises BadFile."""
    return replace(clip.infer_text(shapes, facts), normed=any(name.endswith(FINAL_NORM) for name in shapes.found))


def cut_off(spec: TextSpec) -> int:
    """How many layers the first tower lacks at its end: some files are without the last one, which is not read."""
    return 1 if (spec.width, spec.layers) == (WIDTH, LAYERS - 1) else 0


def _write_whole(spec: TextSpec, around: Surroundings) -> Mapping[str, object]:
    """As diffusers has to count its layers, also where the last one is not in the file."""
    return clip.TEXT_SETTINGS.write(replace(spec, layers=spec.layers + cut_off(spec)), around)


FIRST = PartSpec(
    TEXT.name,
    TEXT.title,
    "conditioner.embedders.0.",
    TEXT.folder,
    TEXT.stem,
    replace(clip.TEXT_NETWORK, infer=infer_first, settings=Settings(clip.TEXT_SETTINGS.read, _write_whole)),
)


def in_file(archive: Archive) -> bool:
    names = archive.tensors
    return CONV_IN in names and any(name.startswith(BIG_G.prefix) for name in names)


def in_folder(index: Config) -> bool:
    return is_named(index) and has_first(index)


def is_named(index: Config) -> bool:
    """Whether an index names a class that generates with Stable Diffusion XL."""
    named = index.values.get("_class_name")
    return isinstance(named, str) and named in PIPELINES


def has_first(index: Config) -> bool:
    """Whether an index names a first text encoder; a refiner's has none."""
    return index.values.get(FIRST.folder) not in (None, [None, None])


def file_facts(archive: Archive) -> Facts:
    """Raises BadFile for CosXL and Playground 2.5, whose levels of noise are others."""
    other = next((whose for beginning, whose in EDM if any(n.startswith(beginning) for n in archive.tensors)), None)
    if other is not None:
        raise BadFile(archive.path, f"is a {other} model, whose levels of noise cannot be sampled yet: choose another")
    known, is_turbo, steps = marks.file_facts(archive), marks.is_turbo(archive), marks.lightning_steps(archive)
    return replace(
        known.knowing(UNET.name, unet.NARROW_HEADS),
        size=known.size or (TURBO_SIZE if is_turbo else SIZE),
        latent_scale=LATENT_SCALE,
        trailing=is_turbo or steps is not None,
        steps=steps,
    )


def tell(said: Conditioning, told: Telling) -> Conditioning:
    """Height and width of the original, top and left of the crop, height and width of the target.

    Where nothing else is asked for, the image is said to be whole and as large as it is made, as in A1111, ComfyUI and
    diffusers. A negative prompt
    without words is no text at all: zeros, as in A1111 and diffusers (docs/compatibility/prompts.md).
    """
    said = silent(said) if told.negative and told.empty else said
    return with_sizes(said, *told.original, told.said.top, told.said.left, *told.target)


def defaults(size: int, facts: Facts) -> ModelDefaults:
    """Turbo was made for one step from the last level, Lightning for a few, both unguided. Without a signal there,
    guidance needs less."""
    if facts.trailing and facts.steps is not None:
        return ModelDefaults("Euler", facts.steps, width=size, height=size, cfg_scale=1.0, scheduler="Turbo")
    if facts.trailing and size <= TURBO_SIZE:
        return ModelDefaults("Euler a", steps=1, width=size, height=size, cfg_scale=1.0, scheduler="Turbo")
    sampler, scale = ("Euler", 5.0) if facts.zero_snr else ("DPM++ 2M", 7.0)
    return ModelDefaults(sampler=sampler, steps=20, width=size, height=size, cfg_scale=scale)


SDXL = Family(
    name="sdxl",
    title="Stable Diffusion XL",
    aliases=("stable-diffusion-xl",),
    parts=(UNET, VAE, FIRST, BIG_G),
    denoiser=UNET.name,
    autoencoder=VAE.name,
    towers=(
        Tower(FIRST, "tokenizer", clip_l, least_skip=2, normed=False, cut_off=cut_off),
        Tower(BIG_G, "tokenizer_2", padded_with_zero, least_skip=2, normed=False),
    ),
    join=side_by_side(pooled=1),
    single=SingleFile(detect=in_file, facts=file_facts, tolerated=marks.tolerated, markers=marks.MARKERS),
    folder=Folder(
        detect=in_folder,
        pipeline=pipelines.by_channels("StableDiffusionXL"),
        index={
            "feature_extractor": [None, None],
            "force_zeros_for_empty_prompt": True,
            "image_encoder": [None, None],
        },
        read=discrete.read,
        write=discrete.write,
    ),
    predictions=("epsilon", "velocity"),
    levels=discrete.levels,
    parameterization=discrete.predicted,
    latent=autoencoder.latent,
    ends=unet.ends,
    defaults=defaults,
    latent_side=SIZE // 8,
    table="sdxl",
    tiny="taesdxl",
    tell=tell,
)
SPECS = (SDXL,)
