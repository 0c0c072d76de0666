"""Stable Diffusion 1.x and every model built like it, of any widths and depths.

Key lists of published files: prefixes, EMA copies and schedule buffers of CompVis' and Runway's checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from atelier.families import folder
from atelier.families.config import Config
from atelier.families.facts import Defaults, Facts, prediction_named
from atelier.families.family import Family, Part
from atelier.families.text import clip_states
from atelier.weights.archive import Archive

PREFIXES: Mapping[Part, str] = MappingProxyType(
    {
        "unet": "model.diffusion_model.",
        "vae": "first_stage_model.",
        "text": "cond_stage_model.",
        "vision": "image_encoder.",
        "projection": "projection.",
    }
)

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

MARKERS = frozenset({"v_pred", "ztsnr"})
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
    return name in LEFTOVERS or name in MARKERS or name.startswith(LEFTOVER_PREFIXES) or name.endswith(LEFTOVER_ENDING)


def in_file(archive: Archive) -> bool:
    names = archive.tensors
    text = any(name.startswith("cond_stage_model.transformer.") for name in names)
    return text and "model.diffusion_model.input_blocks.0.0.weight" in names


def in_folder(index: Config) -> bool:
    """The same class of diffusers paints with SD 2.x, which only the width of the text states tells apart."""
    if index.values.get("_class_name") not in PIPELINES:
        return False
    return Config.read(index.path.parent / "unet" / "config.json").values.get("cross_attention_dim") != SD2_CONTEXT


def file_facts(archive: Archive) -> Facts:
    """From our own metadata if it is there, or else from the markers and the metadata that the community uses."""
    metadata = archive.metadata
    ours = metadata.get("atelier.spec")
    if ours is not None:
        return Facts.from_json(ours, archive.path)
    marked = (
        "v_pred" in archive.tensors or prediction_named(metadata.get("modelspec.prediction_type", "")) == "velocity"
    )
    return Facts(
        prediction="velocity" if marked else "epsilon",
        size=_resolution(metadata.get("modelspec.resolution", "")),
        zero_snr="ztsnr" in archive.tensors,
    )


def defaults(size: int) -> Defaults:
    return Defaults(steps=20, width=size, height=size, cfg_scale=7.0)


def _resolution(text: str) -> int | None:
    side = text.split("x", maxsplit=1)[0].strip()
    return int(side) if side.isascii() and side.isdigit() and 0 < int(side) <= 4096 else None


SPECS = (
    Family(
        name="sd1",
        title="Stable Diffusion 1.x",
        aliases=("sd15", "stable-diffusion-v1"),
        prefixes=PREFIXES,
        tolerated=tolerated,
        markers=MARKERS,
        in_file=in_file,
        in_folder=in_folder,
        file_facts=file_facts,
        folder_facts=folder.facts,
        defaults=defaults,
        encode=clip_states,
    ),
)
