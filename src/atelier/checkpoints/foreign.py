"""What a file is when it is no checkpoint that can be opened."""

from __future__ import annotations

from atelier.checkpoints.kind import Identity, identify, of_known_family
from atelier.weights.archive import Archive

TOGETHER = "name one with --vae FILE or --text-encoder FILE, or keep it with the model (`atelier models convert`)"
"""The way out for a checkpoint that lacks a part."""
ELSEWHERE = (
    "lacks a text encoder or has it under other names: name a file that has it with --text-encoder FILE (this one, or "
    "another)"
)
"""The same for one without what its family is told by."""
_PART = "and no whole checkpoint; give a file or folder with denoiser, autoencoder and text encoder"


def describe(archive: Archive) -> str:
    """One line, to follow the path: what the file is as far as names and shapes tell, and what is needed instead."""
    if not archive.tensors:
        return "holds no tensors"
    found = identify(archive)
    if found is None:
        return "is no checkpoint of a known family: its tensors have other names"
    if found.kind == "unet" and of_known_family(found):
        return f"is {found.phrase}: name what it lacks with --vae FILE and --text-encoder FILE"
    if found.kind != "checkpoint":
        return f"is {found.phrase}, {_PART}"
    named = found.phrase if found.variant in {None, "base"} else f"{found.phrase} ({found.variant})"
    lacks = _lacking(found) if of_known_family(found) else ""
    if lacks:
        return f"is {named}, and {lacks}"
    return f"is {named}, which {ELSEWHERE if of_known_family(found) else 'cannot be read yet'}"


def _lacking(found: Identity) -> str:
    """What a checkpoint is without, and how it is given one."""
    missing = [note.removeprefix("has no ") for note in found.notes if note.startswith("has no ")]
    return f"has no {' and no '.join(missing)}: {TOGETHER}" if missing else ""
