"""Stable Diffusion 1.x and every model built like it, of any widths and depths."""

from __future__ import annotations

from atelier.families import discrete, marks, pipelines
from atelier.families.config import Config
from atelier.families.facts import Facts, ModelDefaults
from atelier.families.family import Family, Folder, SingleFile, Tower
from atelier.families.joining import side_by_side
from atelier.families.parts import PROJECTION, TEXT, UNET, VAE, VISION, autoencoder, unet
from atelier.families.parts.clip import clip_l
from atelier.weights.archive import Archive

CONSISTENCY = frozenset({"LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"})
PIPELINES = pipelines.named("StableDiffusion") | CONSISTENCY
SD2_CONTEXT = 1024
CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
TO_K = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
"""What reads the text states first."""
TEXT_PREFIX = "cond_stage_model.transformer."


def in_file(archive: Archive) -> bool:
    """2.x has encoders of the same names where somebody converted them."""
    return has_text(archive) and CONV_IN in archive.tensors and not reads_sd2(archive)


def has_text(archive: Archive) -> bool:
    """Whether a text encoder in the names of transformers is there."""
    return any(name.startswith(TEXT_PREFIX) for name in archive.tensors)


def reads_sd2(archive: Archive) -> bool:
    """Whether the U-Net reads text states as wide as those of Stable Diffusion 2.x."""
    to_k = archive.tensors.get(TO_K)
    return to_k is not None and to_k.shape[1:] == (SD2_CONTEXT,)


def in_folder(index: Config) -> bool:
    return is_named(index) and not is_like_sd2(index)


def is_named(index: Config) -> bool:
    """Whether an index names a class of diffusers that generates with Stable Diffusion 1.x; 2.x has the same ones."""
    named = index.values.get("_class_name")
    return isinstance(named, str) and named in PIPELINES


def is_like_sd2(index: Config) -> bool:
    """Whether the U-Net in the folder of an index is that of Stable Diffusion 2.x: by the width of the text states, or
    by linear layers around its transformers. Raises BadFile."""
    unet = Config.read(index.path.parent / UNET.folder / "config.json").values
    return unet.get("cross_attention_dim") == SD2_CONTEXT or unet.get("use_linear_projection") is True


def defaults(size: int, facts: Facts) -> ModelDefaults:
    """Without a signal at the last level, guidance needs less, and schedules made for 14.6 waste their steps."""
    sampler, scale = ("Euler", 5.0) if facts.zero_snr else ("DPM++ 2M", 7.0)
    return ModelDefaults(sampler=sampler, steps=20, width=size, height=size, cfg_scale=scale)


SD1 = Family(
    name="sd1",
    title="Stable Diffusion 1.x",
    aliases=("sd15", "stable-diffusion-v1"),
    parts=(UNET, VAE, TEXT, VISION, PROJECTION),
    denoiser=UNET.name,
    autoencoder=VAE.name,
    towers=(Tower(TEXT, "tokenizer", clip_l),),
    join=side_by_side(pooled=0),
    single=SingleFile(
        detect=in_file,
        facts=marks.file_facts,
        tolerated=marks.tolerated,
        markers=marks.MARKERS,
    ),
    folder=Folder(
        detect=in_folder,
        pipeline=pipelines.by_channels("StableDiffusion"),
        index={"feature_extractor": [None, None], "safety_checker": [None, None], "requires_safety_checker": False},
        read=discrete.read,
        write=discrete.write,
    ),
    predictions=("epsilon", "velocity"),
    levels=discrete.levels,
    parameterization=discrete.predicted,
    latent=autoencoder.latent,
    ends=unet.ends,
    defaults=defaults,
    latent_side=64,
    table="sd1",
    tiny="taesd",
)
SPECS = (SD1,)
