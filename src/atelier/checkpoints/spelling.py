"""Files whose tensors go by other names than most: each is read as if it had the usual ones.

The first checkpoints of NovelAI, and merges of them, lack one level of CLIP's names. CompVis' trainings keep a running
mean of the denoiser's weights beside them, under names without dots.
"""

from __future__ import annotations

from atelier.errors import BadFile
from atelier.weights.archive import Archive, renamed

CLIP = "cond_stage_model.transformer."
LEVEL = "text_model."
OUTER = ("embeddings.", "encoder.", "final_layer_norm.")
"""What follows CLIP's prefix where the level is left out."""
DENOISER = "model.diffusion_model."
EMA = "model_ema."
EMA_PREFIXES = (f"{EMA}diffusion_model", EMA)
"""What stands before the name of a parameter, its dots taken out: CompVis' way, and a rare other."""


def respelled(archive: Archive) -> Archive:
    """The archive with the usual names; itself where it has them."""
    names = {_usual(name): name for name in archive.tensors}
    changed = any(usual != name for usual, name in names.items())
    return renamed(archive, names) if changed and len(names) == len(archive.tensors) else archive


def with_ema(archive: Archive) -> Archive:
    """The archive with the running mean of the denoiser's weights in their place. Raises BadFile where it has none."""
    stored = {name: _mean(archive, name) if name.startswith(DENOISER) else name for name in archive.tensors}
    missing = [name for name, mean in stored.items() if mean is None]
    if missing or not any(name.startswith(DENOISER) for name in stored):
        raise BadFile(archive.path, f"has no running mean ({EMA}…) of all weights of its denoiser: leave out --ema")
    return renamed(archive, {name: mean or name for name, mean in stored.items()})


def has_ema(archive: Archive) -> bool:
    """Whether a running mean of weights lies in the file."""
    return any(name.startswith(EMA) and archive.tensors[name].shape for name in archive.tensors)


def _usual(name: str) -> str:
    inner = name.removeprefix(CLIP)
    return f"{CLIP}{LEVEL}{inner}" if inner != name and inner.startswith(OUTER) else name


def _mean(archive: Archive, name: str) -> str | None:
    flat = name.removeprefix(DENOISER).replace(".", "")
    return next((prefix + flat for prefix in EMA_PREFIXES if prefix + flat in archive.tensors), None)
