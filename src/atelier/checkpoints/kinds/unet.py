"""Denoising networks alone, in either layout, with or without what stands before their names in a whole model."""

from __future__ import annotations

from atelier.checkpoints.denoisers import CONTEXTS, denoiser
from atelier.checkpoints.kind import Identity, Kind, Seen, of_known_family
from atelier.checkpoints.kinds import checkpoint, lora
from atelier.checkpoints.kinds.controlnet import is_control

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "unet.", "transformer.", "")
"""Without any comes last: part of a name may look like that of another family."""
EMA_TO_K = r"model_ema\.\w*transformer_blocks0attn2to_kweight"


def recognise(seen: Seen) -> Identity | None:
    if seen.starts(*checkpoint.OTHERS) or is_control(seen) or lora.is_adapter(seen):
        return None
    for prefix in PREFIXES:
        if prefix and not seen.starts(prefix):
            continue
        found = denoiser(seen.below(prefix))
        if found is not None:
            motion = ("carries motion modules (AnimateDiff)",) if seen.holds("motion_modules.") else ()
            return Identity("unet", *found, prediction=checkpoint.predicted(seen, found), notes=motion)
    return _mean(seen)


def _mean(seen: Seen) -> Identity | None:
    """A file of nothing but the running mean of a training."""
    shape = seen.find(EMA_TO_K)
    if seen.heads != frozenset({"model_ema."}) or shape is None:
        return None
    return Identity("unet", CONTEXTS.get(shape[1], "ldm"), "ema", notes=("is a running mean, its names without dots",))


SPECS = (Kind("unet", "denoiser alone", recognise, reads=of_known_family),)
