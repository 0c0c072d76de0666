"""The models on disk, by name and by path, and the files of upscalers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from atelier.checkpoints.embedded import EMBEDDED, embedded_folder
from atelier.errors import BadFile, UnknownName, nearest
from atelier.weights.formats.atomic import expanded
from atelier.weights.formats.tree import places

SINGLE_FILE = ".safetensors"
FOLDER_MARK = "model_index.json"
TRAINING_MARK, TRAINED = "recipe.json", "model"
UPSCALER_FOLDERS = frozenset(
    {"upscalers", "upscale_models", "esrgan", "realesrgan", "bsrgan", "swinir", "scunet", "dat", "hat", "ldsr"}
)
"""What folders of upscalers are called, in any case: here, in ComfyUI, and in A1111 and its extensions."""
UPSCALER_FILES = (".pth", ".pt", ".safetensors")
QUOTED_HASH = re.compile(r"\s*\[[0-9a-fA-F]{8,64}\]$")
"""What A1111 shows behind a model's name."""


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
        for _, model in self.everything():
            found.setdefault(model.name, model)
        first, *others = found.values()
        return (first, *sorted(others, key=lambda m: m.name.casefold()))

    def everything(self) -> Iterator[tuple[str, Model]]:
        """Every model in the folders, also those of one name, each behind its path there (`sd1/photo.safetensors`)."""
        for folder in self.folders:
            for path in sorted(_candidates(folder)):
                yield path.relative_to(folder).as_posix(), Model(_name(path), path)

    def find(self, name: str | None = None) -> Model:
        """By path, or by name ignoring case; a path that exists is meant before any name. None is the embedded model.

        A name may be written as other programs do: with the file's ending, with the folders it lies in, divided by
        either slash, with a hash in brackets behind it. Raises UnknownName with the nearest names, BadFile for a path
        that leads nowhere.
        """
        if name is None:
            return Model(EMBEDDED, embedded_folder())
        path = expanded(name)
        if _is_there(path):
            return Model(_name(path.resolve()), path)
        known = self.models()
        for model in known:
            if model.name.casefold() == name.casefold():
                return model
        if (found := self._written(name)) is not None:
            return found
        names = tuple(model.name for model in known)
        if os.sep in name or _is_single(name):
            near = nearest(_parts(name)[-1] if _parts(name) else path.stem, names)
            raise BadFile(name, f"there is no such file or folder, and no model of that name (`models list`): {near}")
        raise UnknownName("model", name, names)

    def _written(self, name: str) -> Model | None:
        """The model that another program calls so."""
        wanted = _parts(QUOTED_HASH.sub("", name))
        if wanted == (EMBEDDED,):
            return self.find()
        of_one_name = (model for place, model in self.everything() if _parts(place)[-len(wanted) :] == wanted)
        return next(of_one_name, None) if wanted else None

    def upscalers(self) -> Mapping[str, Path]:
        """The files of upscalers by the name of the file; the first folder wins where two hold the same name."""
        found: dict[str, Path] = {}
        for folder in self.folders:
            for path in sorted(_upscalers(folder)):
                found.setdefault(path.stem, path)
        return MappingProxyType(dict(sorted(found.items(), key=lambda item: item[0].casefold())))


def hash_in(name: str) -> str:
    """The hash that A1111 shows in brackets behind a model's name, "" if there is none."""
    found = QUOTED_HASH.search(name)
    return "" if found is None else found[0].strip(" []")


def _candidates(folder: Path) -> Iterator[Path]:
    """Model files and folders at or below `folder`; a model folder is not searched for more, of a training's folder
    only what it made, and what lies among upscalers is none."""
    for path, folders, names in places(folder):
        folders[:] = [name for name in folders if name.casefold() not in UPSCALER_FOLDERS]
        if FOLDER_MARK in names:
            folders.clear()
            yield path
        elif TRAINING_MARK in names:
            folders[:] = [name for name in folders if name == TRAINED]
        else:
            yield from (path / name for name in names if _is_single(name))


def _upscalers(folder: Path) -> Iterator[Path]:
    """Files in the folders of upscalers at or below `folder`, and in those folders' own."""
    for path, folders, names in places(folder):
        if FOLDER_MARK in names:
            folders.clear()
        elif any(part.casefold() in UPSCALER_FOLDERS for part in (folder.name, *path.relative_to(folder).parts)):
            yield from (path / name for name in names if name.casefold().endswith(UPSCALER_FILES))


def _is_single(name: str) -> bool:
    return name.casefold().endswith(SINGLE_FILE)


def _parts(name: str) -> tuple[str, ...]:
    """The folders of a name and its last part, without a file's ending, compared without case; none of an absolute
    path."""
    written = name.strip().replace("\\", "/").casefold().removesuffix(SINGLE_FILE)
    return () if written.startswith(("/", "~")) else tuple(part for part in written.split("/") if part not in {"", "."})


def _is_there(path: Path) -> bool:
    """Also for what is no name of a file at all: too long a text, say."""
    try:
        return path.exists()
    except OSError:
        return False


def _name(path: Path) -> str:
    return path.stem if path.is_file() else path.name
