"""Parts of a model with the networks that prompts name: new ones beside the plain ones, which stay as they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from atelier.adapters.attach import Changes, Strong, with_changes, with_sources
from atelier.adapters.attach import merged as merged_tensors
from atelier.adapters.hypernetwork import Pair, load_hypernetwork, open_hypernetwork
from atelier.adapters.identity import adapter_sha256
from atelier.adapters.inversion import read_embedding
from atelier.adapters.photomaker import photomaker_lora
from atelier.adapters.port.ip_adapter import face_lora
from atelier.adapters.read import Match, deltas, matched, open_adapter
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.text import ClipTower, Known, SilentTower, TextTowers
from atelier.errors import BadFile
from atelier.pipeline.resources import Merged, PartOf, T
from atelier.request.resolved import AdapterRef
from atelier.weights.archive import counted, open_any
from atelier.weights.hashes import HashCache

M = TypeVar("M", bound=nn.Module)


def with_merged(plain: T, model: Checkpoint, part: PartOf[T], merged: Sequence[Merged], hashes: HashCache) -> T:
    """The part with weight adapters in its networks, which shares all tensors that they do not touch with `plain`.

    Raises BadFile for a file that has changed, or is for another model.
    """
    found = [(own, _matched(own.file, model, hashes)) for own in merged if own.file.kind != "hypernet"]
    sources = [(_hypernetwork(own.file, hashes), own.strength) for own in merged if own.file.kind == "hypernet"]
    if isinstance(plain, TextTowers):
        towers = zip(plain.towers, model.family.towers, strict=True)
        changed = [_merged_tower(own, found, tower.part.name) for own, tower in towers]
        return cast("T", replace(plain, towers=tuple(changed)))
    if not isinstance(plain, nn.Module):
        raise BadFile(
            merged[0].file.path, f"cannot be used: this model's {part.name} is no network whose weights are here"
        )
    changed = _changed(plain, found, model.family.denoiser) if found else plain
    return cast("T", with_sources(changed, sources) if sources else changed)


def _hypernetwork(file: AdapterRef, hashes: HashCache) -> Mapping[int, Pair]:
    """Raises BadFile where it has changed."""
    return load_hypernetwork(open_hypernetwork(_unchanged(file, hashes)))


def _changed(net: M, found: Sequence[tuple[Merged, Match]], part: str) -> M:
    """Raises BadFile where an adapter makes weights NaN or infinite."""
    device = next(net.parameters()).device
    made = changes(found, part, device)
    suspect: list[str] = []

    def look(name: str, weight: Tensor) -> None:
        if not _is_finite(weight):
            suspect.append(name)

    changed = with_changes(net, made, look)
    after, before = changed.state_dict(), net.state_dict()
    suspect += [name for name in made if after[name].dtype == torch.float16 and not _is_finite(after[name])]
    bad = [name for name in dict.fromkeys(suspect) if _is_finite(before[name])]
    if bad:
        raise _spoiled(found, part, before, bad)
    return changed


def _spoiled(
    found: Sequence[tuple[Merged, Match]], part: str, before: Mapping[str, Tensor], bad: Sequence[str]
) -> BadFile:
    """Which of the adapters makes these parameters infinite or NaN; the last one where all of them do together."""
    device = before[bad[0]].device
    alone = ((own, changes([(own, match)], part, device).get(bad[0], ())) for own, match in found)
    own = next(
        (own for own, strong in alone if not _is_finite(merged_tensors(before, {bad[0]: strong})[bad[0]])), found[-1][0]
    )
    told = f"makes {counted(bad)} of the {part} NaN or infinite at strength {own.strength:g}"
    return BadFile(own.file.path, f"{told}: it is damaged, or too strong")


def _is_finite(tensor: Tensor) -> bool:
    """A sum is a number where all of its terms are, unless it overflows: only then each is looked at, which takes many
    times as long as adding them up."""
    return bool(tensor.sum(dtype=torch.float32).isfinite()) or bool(tensor.isfinite().all())


def changes(found: Sequence[tuple[Merged, Match]], part: str, device: torch.device) -> Changes:
    """What is added to the parameters of a part, in the order of the adapters; device: where it is."""
    made: defaultdict[str, list[Strong]] = defaultdict(list)
    for own, match in found:
        weights = dict(own.blocks)
        for name, (delta, block) in deltas(match, part, own.rank, device).items():
            strength = own.strength * weights.get(block, 1.0)
            if strength:
                made[name].append(Strong(delta, strength))
    return made


def with_inversions(part: T, inversions: Sequence[AdapterRef], hashes: HashCache) -> T:
    """Text encoders that know those of these textual inversions that are as wide as they are, since each of two models
    has its own; another part, or without any, as it is. Raises BadFile."""
    if not inversions or not isinstance(part, TextTowers):
        return part
    clips = [tower for tower in part.towers if isinstance(tower, ClipTower)]
    widths = tuple(tower.net.spec.width for tower in clips)
    read = {ref.name: read_embedding(_unchanged(ref, hashes), ref.name).fitting(widths) for ref in inversions}
    known = {name: vectors for name, vectors in read.items() if vectors is not None}
    reading = {
        id(tower): replace(tower, vectors={name: vectors[number] for name, vectors in known.items()})
        for number, tower in enumerate(clips)
    }
    return cast("T", replace(part, towers=tuple(reading.get(id(tower), tower) for tower in part.towers)))


def _merged_tower(tower: Known, found: Sequence[tuple[Merged, Match]], part: str) -> Known:
    """A tower that the model lacks has nothing to change."""
    return tower if isinstance(tower, SilentTower) else replace(tower, net=_changed(tower.net, found, part))


def _matched(ref: AdapterRef, model: Checkpoint, hashes: HashCache) -> Match:
    """Raises BadFile."""
    if ref.kind == "lora":
        return matched(open_adapter(_same(ref, adapter_sha256(Path(ref.path), hashes))), model)
    archive = open_any(_unchanged(ref, hashes))
    brought = face_lora(archive, model) if ref.kind == "face" else photomaker_lora(archive)
    assert brought is not None, "only a file that has one is named as such"
    return matched(brought, model)


def _unchanged(ref: AdapterRef, hashes: HashCache) -> Path:
    """The path of the file. Raises BadFile where it is another one by now."""
    return _same(ref, hashes.sha256(Path(ref.path)))


def _same(ref: AdapterRef, sha256: str) -> Path:
    """Raises BadFile for another hash than that of the reference."""
    path = Path(ref.path)
    if sha256 != ref.sha256:
        raise BadFile(path, "has changed since the request was resolved; resolve it again")
    return path
