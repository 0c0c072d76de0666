"""What single files of Stable Diffusion 1.x, 2.x and XL have in common: leftovers of training, and marks.

Key lists of published files: prefixes, EMA copies and schedule buffers of CompVis', Runway's and Stability's
checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from atelier.families import sidecar
from atelier.families.facts import Facts, PredictionType, prediction_named
from atelier.weights.archive import Archive

LEFTOVERS = frozenset(
    {
        *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
        *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
        *("posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
        *("logvar", "lvlb_weights", "scale_factor", "denoiser.sigmas"),
    }
)
"""Buffers of training that files may carry; all of them can be computed."""

UNREAD_OF_TOWERS = ("logit_scale", "transformer.logit_scale", "model.logit_scale", "model.attn_mask")
"""What images were compared with, and a mask that can be computed."""
TOWERS = ("cond_stage_model.", "conditioner.embedders.0.", "conditioner.embedders.1.")

_OF_TOWERS = frozenset(tower + name for tower in TOWERS for name in UNREAD_OF_TOWERS)

VELOCITY, ZERO_SNR = "v_pred", "ztsnr"
"""Empty tensors whose name says what the model predicts, and that its last noise level has no signal."""

LEFTOVER_PREFIXES = ("model_ema.", "first_stage_model.loss.", "first_stage_model.model_ema.")
LEFTOVER_ENDING = "embeddings.position_ids"
"""Counts from 0; merges in half precision have corrupted it."""

MARKERS: Mapping[str, Callable[[Facts], bool]] = MappingProxyType(
    {VELOCITY: lambda facts: facts.prediction == "velocity", ZERO_SNR: lambda facts: facts.zero_snr}
)
"""Which of them a file of these facts carries."""

TURBO = "turbo"
TURBO_NAMES = ("sd_xl_turbo", "sdxl_turbo", "sd_turbo")
"""What the files of Stability's Turbo models are called, with any hyphens for underscores; nothing in them says it."""
LIGHTNING = re.compile(r"lightning[_-]?([2-9])[_-]?step")
"""How ByteDance's files, and merges of them, say their steps."""


def tolerated(name: str) -> bool:
    """Whether a tensor of a single file may be left unread."""
    return (
        name in LEFTOVERS
        or name in {VELOCITY, ZERO_SNR}
        or name.startswith(LEFTOVER_PREFIXES)
        or name.endswith(LEFTOVER_ENDING)
        or name in _OF_TOWERS
    )


def file_facts(archive: Archive) -> Facts:
    """From the markers and the metadata that the community uses."""
    return Facts(
        prediction=stated_prediction(archive) or "epsilon",
        size=_resolution(archive.metadata.get("modelspec.resolution", "")),
        zero_snr=ZERO_SNR in archive.tensors,
    )


def stated_prediction(archive: Archive) -> PredictionType | None:
    """What a file says that its model predicts: in a configuration beside it, by a marker, or in its metadata. Raises
    BadFile for a configuration that cannot be read."""
    marked: PredictionType | None = "velocity" if VELOCITY in archive.tensors else None
    named = prediction_named(archive.metadata.get("modelspec.prediction_type", ""))
    return sidecar.prediction(archive.path) or marked or named


def is_turbo(archive: Archive) -> bool:
    """Whether a file says that it is Stability's Turbo, which was made for a single step."""
    said = archive.metadata.get("modelspec.architecture", "").casefold()
    return TURBO in said or archive.path.stem.casefold().replace("-", "_").startswith(TURBO_NAMES)


def lightning_steps(archive: Archive) -> int | None:
    """So many steps a Lightning model was made for, as its name says. That for one step predicts otherwise."""
    found = LIGHTNING.search(archive.path.stem.casefold())
    return None if found is None else int(found[1])


def _resolution(text: str) -> int | None:
    side = text.split("x", maxsplit=1)[0].strip()
    return int(side) if side.isascii() and side.isdigit() and 0 < int(side) <= 4096 else None
