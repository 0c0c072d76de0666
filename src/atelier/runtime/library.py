"""The models on disk, by name and by path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atelier.checkpoints.embedded import EMBEDDED, embedded_folder
from atelier.errors import BadFile, UnknownName

SINGLE_FILE = ".safetensors"
FOLDER_MARK = "model_index.json"
TRAINING_MARK, TRAINED = "recipe.json", "model"


@dataclass(frozen=True, slots=True)
class Model:
    """A model on disk: a single file or a diffusers folder. `name` is what infotexts call it."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Library:
    """The embedded model, and what lies in `folders` (searched in order, with subfolders)."""

    folders: tuple[Path, ...] = ()

    def models(self) -> tuple[Model, ...]:
        """All models, the embedded one first, then by name; the first folder wins where two hold the same name."""
        found = {EMBEDDED: Model(EMBEDDED, embedded_folder())}
        for folder in self.folders:
            for path in sorted(_candidates(folder)):
                found.setdefault(_name(path), Model(_name(path), path))
        first, *others = found.values()
        return (first, *sorted(others, key=lambda m: m.name.casefold()))

    def find(self, name: str | None = None) -> Model:
        """By path, or by name ignoring case; a path that exists is meant before any name. None is the embedded model.

        Raises UnknownName with the nearest names, BadFile for a path that leads nowhere.
        """
        if name is None:
            return Model(EMBEDDED, embedded_folder())
        path = Path(name).expanduser()
        if _is_there(path):
            return Model(_name(path.resolve()), path)
        for model in self.models():
            if model.name.casefold() == name.casefold():
                return model
        if os.sep in name or path.suffix == SINGLE_FILE:
            raise BadFile(name, "there is no such file or folder; `atelier models list` shows the models by name")
        raise UnknownName("model", name, (m.name for m in self.models()))


def _candidates(folder: Path) -> Iterator[Path]:
    """Model files and folders at or below `folder`; a model folder is not searched for more, and of a training's folder
    only what it made."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]  # half-written ones begin so
        if FOLDER_MARK in names:
            folders.clear()
            yield Path(root)
        elif TRAINING_MARK in names:
            folders[:] = [name for name in folders if name == TRAINED]
        else:
            yield from (Path(root, name) for name in names if name.endswith(SINGLE_FILE) and name[0] != ".")


def _is_there(path: Path) -> bool:
    """Also for what is no name of a file at all: too long a text, say."""
    try:
        return path.exists()
    except OSError:
        return False


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.name
