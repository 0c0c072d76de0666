"""Every file of weights in the folders of models, with what its header says, remembered from one list to the next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atelier.runtime.index import Index
from atelier.runtime.library import Library

KEYS = (
    "kind",
    "family",
    "variant",
    "supported",
    "title",
    "layout",
    "dtype",
    "prediction",
    "size",
    "parameters",
    "bytes",
)
MODEL = "checkpoint"


def listed(library: Library, index: Index, *, every: bool = False) -> list[dict[str, object]]:
    """An entry for each model, or for each file of weights; the embedded model comes first, then by name.

    A file that is told from its header is not opened again until it changes.
    """
    models = {model.path: model.name for model in library.models()}
    files = {path: path.stem for path in library.files()} if every else {}
    names = {**files, **models}
    found = ({"name": names[path], "path": str(path), **entry} for path, entry in index.entries(names, said))
    entries = [entry for entry in found if every or is_model(entry)]
    embedded = [entry for entry in entries if entry["path"] == str(next(iter(models)))]
    others = [entry for entry in entries if entry not in embedded]
    return [*embedded, *sorted(others, key=lambda entry: str(entry["name"]).casefold())]


def is_model(entry: Mapping[str, object]) -> bool:
    """Whether an entry is of a model, or of a file that should be one and cannot be read."""
    return entry.get("kind", MODEL) == MODEL


def said(path: Path) -> dict[str, object]:
    """What is told of a file; one that cannot be read says why."""
    from atelier.checkpoints.inspecting import inspect
    from atelier.errors import BadFile

    try:
        found = inspect(path)
    except BadFile as error:
        return {"problem": error.problem}
    values = found.json()
    entry = {key: values[key] for key in KEYS if key in values}
    return entry if found.problem is None else {**entry, "problem": found.problem}
