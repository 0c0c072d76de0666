"""Every file of weights that the server has, by opaque ids: what it is, and all that there is to say about it.

Clients name a file by the id that they were told, and never by a path: an id is looked up among what is there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from atelier.checkpoints.inspecting import Hashes, inspect
from atelier.errors import BadFile, BadInput
from atelier.request.events import Json
from atelier.runtime.listing import listed
from atelier.runtime.workers.places import without_places
from atelier.weights.hashes import SHORT_TENSORS, HashCache, short

if TYPE_CHECKING:
    from atelier.checkpoints.inspecting import FileReport
    from atelier.runtime.index import Index
    from atelier.runtime.library import Library

MOST_TEXT = 20_000
"""Characters of each value of a file's metadata that are told: some hold whole workflows."""
_FOLDERS = re.compile(r"(?<![\w:/\\.])(?:[A-Za-z]:)?[\\/](?:[^\\/\s\"',;:<>|]+[\\/])+")
"""An absolute path up to its last part, and no URL."""


def shelf(library: Library, index: Index) -> list[Json]:
    """An entry for each file or folder of weights: the embedded model first, then by name."""
    entries = (_entry(library, found) for found in listed(library, index, every=True))
    return [entry for entry in entries if entry is not None]


def place_of(library: Library, name: str) -> Path:
    """The file or folder that an entry of this id is about; none is opened. Raises BadInput for an id that none has."""
    for path in (*(model.path for model in library.models()), *library.files()):
        if _id(str(path)) == name:
            return path
    raise BadInput("there is no file of this id any more: refresh the list")


def card(library: Library, hashes: HashCache, name: str) -> dict[str, Json]:
    """All that the headers of a file say, and its hashes where they are known. Raises BadInput, BadFile."""
    path = place_of(library, name)
    return {"id": name, **told(library, inspect(path), hashes)}


def told(library: Library, found: FileReport, hashes: HashCache, digests: Hashes | None = None) -> dict[str, Json]:
    """A report without where anything lies on the server or lay on the machine that wrote the file."""
    said = cast("dict[str, Json]", found.json())
    metadata = {key: _anywhere(value[:MOST_TEXT]) for key, value in found.metadata.items()}
    known = digests or _known(found, hashes)
    return {
        **cast("dict[str, Json]", _clean(said, library)),
        "metadata": cast("Json", metadata),
        "path": None,
        "file": _place(library, found.path),
        "sha256": None if known is None else known.sha256,
        "short": None if known is None else known.short,
        "autov3": None if known is None else known.autov3,
    }


def _entry(library: Library, found: Mapping[str, object]) -> dict[str, Json] | None:
    """What is listed of a file; None where it is gone by now."""
    path = Path(str(found["path"]))
    problem = found.get("problem")
    with suppress(OSError):
        return {
            "id": _id(str(path)),
            "name": str(found["name"]),
            "file": _place(library, path),
            "kind": str(found.get("kind", "unknown")),
            "family": cast("Json", found.get("family")),
            "variant": cast("Json", found.get("variant")),
            "title": str(found.get("title", "")),
            "dtype": str(found.get("dtype", "")),
            "bytes": cast("int", found.get("bytes", 0)),
            "parameters": cast("int", found.get("parameters", 0)),
            "size": cast("Json", found.get("size")),
            "supported": bool(found.get("supported", False)),
            "problem": None if problem is None else without_places(str(problem), library.folders),
            "changed": path.stat().st_mtime,
        }
    return None


def _id(path: str) -> str:
    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:24]


def _place(library: Library, path: Path) -> str:
    """Where it lies below its folder of models."""
    for folder in library.folders:
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    return path.name


def _known(found: FileReport, cache: HashCache) -> Hashes | None:
    """The hashes of a single file, where they were computed before."""
    if len(found.files) != 1 or found.path.is_dir():
        return None
    with suppress(BadFile):
        whole, tensors = cache.known(found.files[0]), cache.known_tensors(found.files[0])
        if whole is not None:
            return Hashes(whole, short(whole), None if tensors is None else tensors[:SHORT_TENSORS])
    return None


def _clean(value: Json, library: Library) -> Json:
    if isinstance(value, str):
        return _anywhere(without_places(value, library.folders))
    if isinstance(value, list):
        return [_clean(item, library) for item in value]
    return {key: _clean(item, library) for key, item in value.items()} if isinstance(value, dict) else value


def _anywhere(text: str) -> str:
    """A text of a file without the folders of the machine that wrote it."""
    return _FOLDERS.sub("", text)
