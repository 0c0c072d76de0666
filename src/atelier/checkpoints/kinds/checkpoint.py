"""Whole models in one file, in the layouts of CompVis, Stability AI and ComfyUI."""

from __future__ import annotations

from atelier.checkpoints.denoisers import Denoiser, denoiser
from atelier.checkpoints.kind import Identity, Kind, Seen
from atelier.checkpoints.kinds import lora
from atelier.checkpoints.spelling import BARE, DENOISER

CONVERTED = ("unet.", "transformer.")
"""What stands before the names of the denoiser in a file of all networks of a pipeline of diffusers."""
OTHERS = ("first_stage_model.", "cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder.", "vae.")
"""What the other parts of a model begin with; one of them at least makes it a whole one."""
TEXT = ("cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder.")
AUTOENCODER = ("first_stage_model.", "vae.")
V_PRED, EDM_V = "v_pred", "edm_vpred.sigma_max"
BASE_STEPS = "875000"
"""The global step of the only published SD 2.0 checkpoint that predicts noise."""


def recognise(seen: Seen) -> Identity | None:
    prefix = next((own for own in (DENOISER, BARE, *CONVERTED) if seen.starts(own)), None)
    if prefix is None or not seen.starts(*OTHERS) or seen.starts("control_model."):
        return None
    if prefix != DENOISER and lora.is_adapter(seen):
        return None
    found = _marked(seen) or denoiser(seen.below(prefix))
    if found is None:
        return Identity("checkpoint", None, None, notes=("its denoiser is of no known family",))
    return Identity("checkpoint", *found, prediction=predicted(seen, found), notes=tuple(_notes(seen)))


def has_denoiser(seen: Seen) -> bool:
    """Whether the denoiser of a model is there, so that what is beside it is no part alone."""
    return seen.starts(DENOISER, BARE) or (seen.starts(*CONVERTED) and seen.starts("vae."))


def _marked(seen: Seen) -> Denoiser | None:
    """What parts beside the denoiser tell: AltDiffusion reads several languages, others have an encoder of images."""
    if seen.starts("cond_stage_model.roberta."):
        return Denoiser("alt_diffusion", "base")
    if seen.starts("noise_augmentor.", "embedder.model."):
        return Denoiser("sd2", "unclip")
    if seen.starts("cc_projection."):
        return Denoiser("sd1", "zero123")
    return None


def predicted(seen: Seen, found: Denoiser) -> str | None:
    """What the file says that its denoiser predicts; None where it does not say."""
    if seen.has(V_PRED) or seen.has(EDM_V):
        return "velocity"
    stated = seen.metadata.get("modelspec.prediction_type", "")
    if stated:
        return "velocity" if stated.startswith("v") else stated
    if found.family == "sd3":
        return "flow"
    if found.family == "sd2" and seen.metadata.get("global_step") == BASE_STEPS:
        return "epsilon"
    return "epsilon" if found.family in {"sd1", "sdxl"} else None


def _notes(seen: Seen) -> list[str]:
    told = [
        ("has no text encoder", not seen.starts(*TEXT)),
        ("has no autoencoder", not seen.starts(*AUTOENCODER)),
        ("keeps a running mean of its weights (model_ema)", seen.starts("model_ema.")),
        ("names its text encoder as NovelAI does", seen.starts("cond_stage_model.transformer.embeddings.")),
        ("ends without signal at the last noise level (ztsnr)", seen.has("ztsnr")),
        ("was trained on EDM's noise levels (CosXL)", seen.has(EDM_V)),
        ("was trained on EDM's noise levels (Playground 2.5)", seen.has("edm_mean")),
        ("is float8 with scales", seen.holds(".scale_weight\n", ".weight_scale\n")),
    ]
    return [note for note, true in told if true]


SPECS = (Kind("checkpoint", "checkpoint", recognise),)
