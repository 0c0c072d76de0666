"""Opening a model, whatever it is and wherever it lies: a single file or a diffusers folder. Headers only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import atelier.families
from atelier.checkpoints import folder as folders
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.foreign import TOGETHER, describe
from atelier.checkpoints.spelling import respelled, with_ema
from atelier.errors import BadFile
from atelier.families.config import Config
from atelier.families.facts import Facts
from atelier.families.family import Family
from atelier.families.part import PartSpec
from atelier.registry import discover
from atelier.weights.archive import WAY_OUT, Archive, Stored, counted, open_any
from atelier.weights.formats.atomic import expanded

SPEC = "atelier.spec"
"""The key in a single file's metadata for the facts that its shapes do not say."""


PARAMETERS = (".weight", ".bias", ".gamma", ".beta", ".alpha", ".scale")
"""What the names of layers' parameters end with; another tensor of more than one dimension counts as one too."""
OF_TRAINING = ("embedding_manager.", "optimizer", "lr_scheduler", "callbacks", "loops.")
"""What the names begin with of things that trainings save with their networks."""
NO_INDEX = f"is no model: a diffusers folder has a {folders.INDEX}"
"""What is wrong with a folder without it."""


@cache
def families() -> Mapping[str, Family]:
    """All families by name."""
    return discover(atelier.families, Family)


def open_checkpoint(
    path: str | Path, *, variant: str | None = None, ema: bool = False, known: Iterable[Family] | None = None
) -> Checkpoint:
    """Opens a single file or a folder, reading headers and settings only.

    variant: chooses among a folder's weights. ema: takes the running mean of the denoiser's weights, where a single
    file has it. known: the families that it may be of, all that are there if None. Raises BadFile with one line
    for what does not exist, is broken, or is another kind of file or family.
    """
    path, candidates = expanded(path), tuple(families().values() if known is None else known)
    if path.is_dir():
        if ema:
            raise BadFile(path, "is a folder, which has no running mean of its weights; choose a variant instead")
        return _open_folder(path, variant, candidates)
    check_variant(path, variant)
    archive = open_any(path)
    return open_archive(path, with_ema(archive) if ema else archive, candidates)


def check_variant(file: Path, variant: str | None) -> None:
    """Raises BadFile."""
    if variant is not None and file.is_file():
        raise BadFile(file, f"is one file, which has no variant {variant}: name a folder, or leave the variant out")


def open_archive(path: Path, opened: Archive, known: Iterable[Family] | None = None) -> Checkpoint:
    """The model in a single file whose header has been read. Raises BadFile as `open_checkpoint` does."""
    archive, candidates = respelled(opened), families().values() if known is None else known
    family = next((f for f in candidates if f.single.detect(archive)), None)
    if family is None:
        raise BadFile(path, describe(archive))
    parts: dict[str, Stored] = {}
    for part in family.parts:
        if any(name.startswith(part.prefixes) for name in archive.tensors):
            parts[part.name] = stored_in(archive, part, family)
        elif part.required:
            named = f"no tensor is called {part.prefix}*"
            is_given = part.name != family.denoiser
            raise BadFile(path, f"lacks its {part.title}: {named}; {TOGETHER if is_given else WAY_OUT}")
    facts = stated_facts(family, archive)
    surplus = _surplus(path, archive, family)
    ignored, metadata = (*_ignored(family, archive), *surplus), carried(archive.metadata)
    return _possible(Checkpoint(path, family, "ldm", facts, MappingProxyType(parts), ignored, metadata, surplus))


def stored_in(archive: Archive, part: PartSpec[Any, Any], family: Family) -> Stored:
    """Where a part lies in a single file of the family that has it: under the usual names, or under diffusers'."""
    converted = part.converted and any(name.startswith(part.converted) for name in archive.tensors)
    layout, prefix = ("diffusers", part.converted) if converted else ("ldm", part.prefix)
    return Stored(archive, layout, prefix, family.single.tolerated)


def stated_facts(family: Family, archive: Archive) -> Facts:
    """Those that a single file says, where Atelier wrote it, else what its family reads from it. Raises BadFile."""
    stored = archive.metadata.get(SPEC)
    return family.single.facts(archive) if stored is None else Facts.from_json(stored, archive.path)


def _surplus(path: Path, archive: Archive, family: Family) -> tuple[str, ...]:
    """The tensors that belong to no part. Raises BadFile for those that look like a network's."""
    claimed, tolerated = family.prefixes, family.single.tolerated
    surplus = [name for name in archive.tensors if not name.startswith(claimed) and not tolerated(name)]
    networks = [name for name in surplus if _is_of_network(name, archive.tensors[name].shape)]
    if networks:
        raise BadFile(path, f"has {counted(networks)} beside the parts of a {family.title} checkpoint; {WAY_OUT}")
    return tuple(sorted(surplus))


def _is_of_network(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor looks like a layer's parameter, and is none that a training keeps beside its network."""
    is_parameter = name.endswith(PARAMETERS) or len(shape) > 1
    return is_parameter and not name.startswith(OF_TRAINING)


def _open_folder(path: Path, variant: str | None, candidates: Iterable[Family]) -> Checkpoint:
    if not (path / folders.INDEX).is_file():
        raise BadFile(path, NO_INDEX)
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
