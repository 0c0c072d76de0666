"""What may be written where: a file or a folder of a model, and never in the place of another unless that is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from atelier.errors import BadFile

Layout = Literal["ldm", "diffusers"]
SINGLE_FILE = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""What the names of files end with that only torch writes."""
TAKEN = "exists already; choose another name, or add --overwrite"


def check_target(target: Path, layout: Layout, *, overwrite: bool) -> None:
    """Raises BadFile for what cannot be written in this layout."""
    (check_file if layout == "ldm" else check_folder)(target, overwrite=overwrite)


def check_file(target: Path, *, overwrite: bool) -> None:
    """Raises BadFile for what cannot be written as one file."""
    from atelier.weights.formats.atomic import reachable

    if target.suffix != SINGLE_FILE:
        raise BadFile(target, f"is no name for a single file; let it end in {SINGLE_FILE}")
    if reachable(target).is_dir():
        raise BadFile(target, "is a folder; name a file")
    if target.exists() and not overwrite:
        raise BadFile(target, TAKEN)


def check_folder(target: Path, *, overwrite: bool) -> None:
    """Raises BadFile for what cannot become the folder of a model."""
    from atelier.checkpoints.folder import INDEX
    from atelier.checkpoints.write import written
    from atelier.weights.formats.atomic import reachable

    if target.suffix.casefold() in PICKLES:
        raise BadFile(target, f"is no name for a folder, and pickles are not written; let it end in {SINGLE_FILE}")
    if not reachable(target).exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise BadFile(target, TAKEN)
    others = sorted(path.name for path in target.iterdir() if path.name not in written()) if target.is_dir() else []
    if others or (target.is_dir() and not (target / INDEX).is_file()):
        lost = others[0] if others else "all that it holds"
        raise BadFile(target, f"holds something else than a model, which would be lost ({lost}); choose another name")
