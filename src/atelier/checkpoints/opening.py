"""Opening a model, whatever it is and wherever it lies: a single file or a diffusers folder. Headers only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import atelier.families
from atelier.checkpoints import folder as folders
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.foreign import describe
from atelier.errors import BadFile
from atelier.families.config import Config
from atelier.families.facts import Facts
from atelier.families.family import Family
from atelier.registry import discover
from atelier.weights.archive import WAY_OUT, Archive, Stored, counted, open_file

SPEC = "atelier.spec"
"""The key in a single file's metadata for the facts that its shapes do not say."""


def families() -> Mapping[str, Family]:
    """All families by name."""
    return discover(atelier.families, Family)


def open_checkpoint(
    path: str | Path, *, variant: str | None = None, known: Iterable[Family] | None = None
) -> Checkpoint:
    """Opens a single file or a folder, reading headers and settings only.

    variant: chooses among a folder's weights. known: the families that it may be of, all that are there if None. Raises
    BadFile with one line for what does not exist, is broken, or is another kind of file or family.
    """
    path, candidates = Path(path).expanduser(), tuple(families().values() if known is None else known)
    return _open_folder(path, variant, candidates) if path.is_dir() else _open_single(path, candidates)


def _open_single(path: Path, candidates: Iterable[Family]) -> Checkpoint:
    archive = open_file(path)
    family = next((f for f in candidates if f.single.detect(archive)), None)
    if family is None:
        raise BadFile(path, describe(archive.tensors))
    parts: dict[str, Stored] = {}
    for part in family.parts:
        if any(name.startswith(part.prefix) for name in archive.tensors):
            parts[part.name] = Stored(archive, "ldm", part.prefix, family.single.tolerated)
        elif part.required:
            named = f"no tensor is called {part.prefix}*"
            raise BadFile(path, f"lacks its {part.title}: {named}; {WAY_OUT}")
    _check_claimed(path, archive, family)
    stored = archive.metadata.get(SPEC)
    facts = family.single.facts(archive) if stored is None else Facts.from_json(stored, path)
    ignored, metadata = _ignored(family, archive), carried(archive.metadata)
    return _possible(Checkpoint(path, family, "ldm", facts, MappingProxyType(parts), ignored, metadata))


def _check_claimed(path: Path, archive: Archive, family: Family) -> None:
    claimed, tolerated = family.prefixes, family.single.tolerated
    surplus = [name for name in archive.tensors if not name.startswith(claimed) and not tolerated(name)]
    if surplus:
        raise BadFile(path, f"has {counted(surplus)} beside the parts of a {family.title} checkpoint; {WAY_OUT}")


def _open_folder(path: Path, variant: str | None, candidates: Iterable[Family]) -> Checkpoint:
    if not (path / folders.INDEX).is_file():
        raise BadFile(path, f"is no model: a diffusers folder has a {folders.INDEX}")
    index = Config.read(path / folders.INDEX)
    family = next((f for f in candidates if f.folder is not None and f.folder.detect(index)), None)
    if family is None:
        kind = str(index.values.get("_class_name", "nothing that diffusers writes"))
        raise BadFile(path, f"holds {kind}, of a family that cannot be read yet")
    archives = folders.archives(path, family, variant)
    tolerated = family.single.tolerated
    parts = {part: Stored(archive, "diffusers", "", tolerated) for part, archive in archives.items()}
    facts = folders.facts(index, family, parts)
    ignored, metadata = _ignored(family, *archives.values()), carried(archives[family.denoiser].metadata)
    return _possible(Checkpoint(path, family, "diffusers", facts, MappingProxyType(parts), ignored, metadata))


def _possible(checkpoint: Checkpoint) -> Checkpoint:
    stored, family = checkpoint.facts.prediction, checkpoint.family
    if stored not in family.predictions:
        raise BadFile(checkpoint.path, f"says that it predicts {stored}, which no {family.title} checkpoint does")
    return checkpoint


def _ignored(family: Family, *archives: Archive) -> tuple[str, ...]:
    names = (name for archive in archives for name in archive.tensors)
    tolerated, markers = family.single.tolerated, family.single.markers
    return tuple(sorted(name for name in names if tolerated(name) and name not in markers))


def carried(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata of a file that stays with the model when it is converted: all but the container's own and ours."""
    return {key: value for key, value in metadata.items() if key != "format" and not key.startswith("atelier.")}
