"""Where jobs write what they make of models: into the first folder of models, under a name, never a path."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from atelier.errors import BadFile, BadInput, about
from atelier.request.events import Json
from atelier.runtime.library import Library
from atelier.runtime.targets import SINGLE_FILE, Layout, check_target
from atelier.runtime.teaching import MODELS
from atelier.runtime.workers.filenames import NAME
from atelier.runtime.workers.places import without_places
from atelier.train.folder import writing
from atelier.weights.formats.atomic import sweep

NewName = Annotated[str, Field(min_length=1, max_length=100, pattern=NAME)]


def target_of(library: Library, name: str, layout: Layout, *, overwrite: bool) -> Path:
    """The file or folder of a new model. Raises BadInput that names the field, also where another one is there and may
    not be overwritten."""
    if not library.folders:
        raise BadInput("the server has no folder of models to write into: start it with --models-dir")
    target = library.folders[0] / MODELS / (f"{name}{SINGLE_FILE}" if layout == "ldm" else name)
    with about("name"):
        try:
            check_target(target, layout, overwrite=overwrite)
        except BadFile as error:
            raise BadInput(f"name: {without_places(str(error), library.folders)}") from error
    return target


def ready(target: Path) -> None:
    """Makes the folder of a target, and clears it of what killed writers left. Raises BadFile, StorageFull."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)


def written(library: Library, target: Path) -> dict[str, Json]:
    """What a job tells of a model that it wrote: the name that requests use, its file, and its bytes."""
    files = [target] if target.is_file() else [path for path in target.rglob("*") if path.is_file()]
    return {
        "model": target.stem if target.is_file() else target.name,
        "files": [target.relative_to(library.folders[0]).as_posix()],
        "bytes": sum(path.stat().st_size for path in files),
    }
