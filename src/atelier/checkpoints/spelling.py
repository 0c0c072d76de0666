"""Files whose tensors go by other names than most: each is read as if it had the usual ones.

The first checkpoints of NovelAI, and merges of them, lack one level of CLIP's names. CompVis' trainings keep a running
mean of the denoiser's weights beside them, under names without dots. SD-Turbo is of Stable Diffusion 2.x, and its text
encoder has the name of XL's first one. OpenCLIP's own files have nothing before the names of theirs. Some programs call
the autoencoder by its short name.
"""

from __future__ import annotations

from collections.abc import Mapping

from atelier.errors import BadFile
from atelier.weights.archive import Archive, renamed
from atelier.weights.scaled import unscaled

CLIP = "cond_stage_model.transformer."
LEVEL = "text_model."
OUTER = ("embeddings.", "encoder.", "final_layer_norm.")
"""What follows CLIP's prefix where the level is left out."""
TURBO, OF_SD2 = "conditioner.embedders.0.model.", "cond_stage_model.model."
TURBO_NORM, TURBO_WIDTH = f"{TURBO}ln_final.weight", 1024
"""What tells SD-Turbo's text encoder from that of XL's refiner, which is 1280 wide."""
DENOISER, BARE = "model.diffusion_model.", "diffusion_model."
"""What stands before the names of the denoiser, and what is left of it where a program saved what is inside of its
model."""
AUTOENCODER, SHORT = "first_stage_model.", "vae."
"""What stands before the names of the autoencoder, and what some programs write instead."""
SHORT_FIRST = f"{SHORT}encoder.down.0."
"""What begins names of its layers there, where they are those of single files and not diffusers'."""
OUTERMOST = "model."
PARTS = (DENOISER, "first_stage_model.", "cond_stage_model.", "conditioner.", "text_encoders.", "model_ema.")
"""What follows where a program kept a whole model in an object."""
OPEN_CLIP = (
    "transformer.resblocks.",
    "ln_final.",
    "token_embedding.",
    "positional_embedding",
    "text_projection",
    "logit_scale",
)
"""What the names of OpenCLIP's text towers begin with."""
OPEN_NORM = "ln_final.weight"
OPEN_TOWERS = {1024: OF_SD2, 1280: "conditioner.embedders.1.model."}
"""By width, where models in one file have them."""
EMA = "model_ema."
EMA_PREFIXES = (f"{EMA}diffusion_model", EMA)
"""What stands before the name of a parameter, its dots taken out: CompVis' way, and a rare other."""


def respelled(opened: Archive) -> Archive:
    """The archive with the usual names, and float8 without scales; itself where it has them."""
    archive = unscaled(opened)
    bare, moved = archive.tensors.get(OPEN_NORM), _moved(archive)
    tower = "" if bare is None else OPEN_TOWERS.get(bare.shape[0] if bare.shape else 0, "")
    names = {_usual(name, tower, moved): name for name in archive.tensors}
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


def _moved(archive: Archive) -> dict[str, str]:
    """What stands before the names of whole parts in this file -> what usually does."""
    norm, moved = archive.tensors.get(TURBO_NORM), dict[str, str]()
    if norm is not None and norm.shape == (TURBO_WIDTH,):
        moved[TURBO] = OF_SD2
    looked_for = (DENOISER, BARE, AUTOENCODER, SHORT_FIRST)
    begins = {own for own in looked_for if any(n.startswith(own) for n in archive.tensors)}
    if BARE in begins and DENOISER not in begins and len(begins) > 1:
        moved[BARE] = DENOISER
        begins = begins - {BARE} | {DENOISER}
    if begins == {DENOISER, SHORT_FIRST}:
        moved[SHORT] = AUTOENCODER
    return moved


def _usual(name: str, tower: str, moved: Mapping[str, str]) -> str:
    """tower: what stands before OpenCLIP's names in models, where they are bare; moved: see `_moved`."""
    if tower and name.startswith(OPEN_CLIP):
        return tower + name
    for there, usual in moved.items():
        if name.startswith(there):
            return usual + name.removeprefix(there)
    if name.startswith(OUTERMOST) and name.startswith(PARTS, len(OUTERMOST)):
        return _usual(name.removeprefix(OUTERMOST), tower, moved)
    inner = name.removeprefix(CLIP)
    return f"{CLIP}{LEVEL}{inner}" if inner != name and inner.startswith(OUTER) else name


def _mean(archive: Archive, name: str) -> str | None:
    flat = name.removeprefix(DENOISER).replace(".", "")
    return next((prefix + flat for prefix in EMA_PREFIXES if prefix + flat in archive.tensors), None)
