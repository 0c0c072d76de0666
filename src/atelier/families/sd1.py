"""Stable Diffusion 1.x and every model built like it, of any widths and depths.

Key lists of published files: prefixes, EMA copies and schedule buffers of CompVis' and Runway's checkpoints.
"""

from __future__ import annotations

from atelier.errors import BadInput
from atelier.families import discrete
from atelier.families.config import Config
from atelier.families.facts import Facts, LatentFormat, ModelDefaults, prediction_named
from atelier.families.family import Ends, Family, Folder, SingleFile, Tower
from atelier.families.joining import side_by_side
from atelier.families.parts import PROJECTION, TEXT, UNET, VAE, VISION, autoencoder, unet
from atelier.families.parts.clip import clip_l
from atelier.weights.archive import Archive

LEFTOVERS = frozenset(
    {
        *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
        *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
        *("posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
        *("logvar", "lvlb_weights", "scale_factor", "denoiser.sigmas"),
        *("cond_stage_model.logit_scale", "cond_stage_model.transformer.logit_scale"),
    }
)
"""Buffers of training that files may carry; all of them can be computed."""

VELOCITY, ZERO_SNR = "v_pred", "ztsnr"
"""Empty tensors whose name says what the model predicts, and that its last noise level has no signal."""

LEFTOVER_PREFIXES = ("model_ema.", "first_stage_model.loss.", "first_stage_model.model_ema.")
LEFTOVER_ENDING = "embeddings.position_ids"
"""Counts from 0; merges in half precision have corrupted it."""

PIPELINES = frozenset(
    {
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionInpaintPipelineLegacy",
        "StableDiffusionInstructPix2PixPipeline",
    }
)
SD2_CONTEXT = 1024


def tolerated(name: str) -> bool:
    """Whether a tensor of a single file may be left unread."""
    return (
        name in LEFTOVERS
        or name in {VELOCITY, ZERO_SNR}
        or name.startswith(LEFTOVER_PREFIXES)
        or name.endswith(LEFTOVER_ENDING)
    )


def in_file(archive: Archive) -> bool:
    names = archive.tensors
    text = any(name.startswith("cond_stage_model.transformer.") for name in names)
    return text and "model.diffusion_model.input_blocks.0.0.weight" in names


def in_folder(index: Config) -> bool:
    """The same class of diffusers generates with SD 2.x, which only the width of the text states tells apart."""
    named = index.values.get("_class_name")
    if not isinstance(named, str) or named not in PIPELINES:
        return False
    return Config.read(index.path.parent / "unet" / "config.json").values.get("cross_attention_dim") != SD2_CONTEXT


def file_facts(archive: Archive) -> Facts:
    """From the markers and the metadata that the community uses."""
    metadata = archive.metadata
    named = prediction_named(metadata.get("modelspec.prediction_type", ""))
    return Facts(
        prediction="velocity" if VELOCITY in archive.tensors or named == "velocity" else "epsilon",
        size=_resolution(metadata.get("modelspec.resolution", "")),
        zero_snr=ZERO_SNR in archive.tensors,
    )


def pipeline(ends: Ends, latent: LatentFormat) -> str:
    """The class of diffusers that knows what the U-Net is given beside the latent: nothing, a masked image, an
    image."""
    beside = ends.in_channels - latent.channels
    names = {0: "", latent.channels + 1: "Inpaint", latent.channels: "InstructPix2Pix"}
    if beside not in names:
        raise BadInput(
            f"a U-Net of {ends.in_channels} channels for a latent of {latent.channels}: diffusers' folder of such a "
            "model is not known here; write one file, which keeps it as it is"
        )
    return f"StableDiffusion{names[beside]}Pipeline"


def defaults(size: int, facts: Facts) -> ModelDefaults:
    """Without a signal at the last level, guidance needs less, and schedules made for 14.6 waste their steps."""
    sampler, scale = ("Euler", 5.0) if facts.zero_snr else ("DPM++ 2M", 7.0)
    return ModelDefaults(sampler=sampler, steps=20, width=size, height=size, cfg_scale=scale)


def _resolution(text: str) -> int | None:
    side = text.split("x", maxsplit=1)[0].strip()
    return int(side) if side.isascii() and side.isdigit() and 0 < int(side) <= 4096 else None


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
        facts=file_facts,
        tolerated=tolerated,
        markers={VELOCITY: lambda facts: facts.prediction == "velocity", ZERO_SNR: lambda facts: facts.zero_snr},
    ),
    folder=Folder(
        detect=in_folder,
        pipeline=pipeline,
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
)
SPECS = (SD1,)
