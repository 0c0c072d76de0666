"""New models out of the weights of others, and models without what only trainings need: tensor by tensor.

No model is in memory as a whole: of each some tensors are read ahead, then computed in float32 and written one by one.
The rules are those of A1111's merger and of merges by block weights: docs/compatibility/merging.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.checkpoints.ahead import Ahead
from atelier.checkpoints.checkpoint import PRECISIONS
from atelier.checkpoints.kind import family_title, identify
from atelier.checkpoints.opening import families, stated_facts
from atelier.checkpoints.spelling import EMA, respelled, with_ema
from atelier.errors import BadFile, BadInput
from atelier.families.family import Family
from atelier.weights.archive import Archive, open_any
from atelier.weights.formats import safetensors
from atelier.weights.formats.safetensors import FLOATS, Tell, untold
from atelier.weights.hashes import HashCache

if TYPE_CHECKING:
    import torch
    from torch import Tensor

UNET = "model.diffusion_model."
INPUT, MIDDLE, OUTPUT, LAST = (f"{UNET}{name}" for name in ("input_blocks.", "middle_block.", "output_blocks.", "out."))
KEPT = "position_ids"
"""Counts from 0, which an average would spoil."""
RECIPE, FROM = "sd_merge_recipe", "modelspec.merged_from"
KINDS: Mapping[str, str] = {name: kind for kind, name in PRECISIONS.items()}
LARGEST_WEIGHT = 10.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done: first * (1 - weight) + second * weight, or with a third model first + (second - third) * weight.

    weight: 0 is the first model; blocks: a weight for what is in no block and for each block of the U-Net, in the order
    in which they run, none: `weight` for all. dtype: fp32, fp16 or bf16 of what is written, None: each tensor as it is
    in the first model.
    """

    weight: float = 0.5
    blocks: tuple[float, ...] = ()
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of the tensors: how many were merged, and those that only the first model has."""

    merged: int
    kept: tuple[str, ...]


def check(first: Path, second: Path, third: Path | None, recipe: Recipe) -> None:
    """What `merge` raises before it writes, from headers alone. Raises BadFile, BadInput."""
    archives = _archives(first, second, third, recipe)
    _places(archives[0], recipe)
    _shared(archives)


def merge(first: Path, second: Path, third: Path | None, recipe: Recipe, target: Path, tell: Tell = untold) -> Merged:
    """Writes the merged model, complete or not at all. tell: as in `safetensors.save_each`. Raises BadFile for models
    that do not go together, BadInput for weights that do not fit them, StorageFull."""
    archives = _archives(first, second, third, recipe)
    base = archives[0]
    places, shared = _places(base, recipe), _shared(archives)
    declared = {name: (_kind(base, name, recipe.dtype), info.shape) for name, info in base.tensors.items()}

    order = safetensors.written_order(declared)
    readers = [Ahead(archive, [name for name in order if archive is base or name in shared]) for archive in archives]

    def tensor(name: str) -> Tensor:
        if name not in shared:
            return _cast(readers[0].take(name), declared[name][0], name, target)
        weight = recipe.weight if not recipe.blocks else recipe.blocks[places[name]]
        taken = zip(readers, archives, strict=True)
        mixed = _combined([_sound(reader.take(name).float(), name, archive.path) for reader, archive in taken], weight)
        return _cast(mixed, declared[name][0], name, target)

    safetensors.save_each(target, declared, tensor, _metadata(archives, recipe), tell)
    kept = tuple(sorted(name for name in base.tensors if name not in shared and _is_merged(base, name)))
    return Merged(len(shared), kept)


def prune(source: Path, target: Path, *, dtype: str | None = None, ema: bool = False) -> tuple[str, ...]:
    """Writes a single file without what only trainings need, and gives the names of what was left out.

    ema: takes the running mean of the denoiser's weights in their place. Raises BadFile, StorageFull.
    """
    archive = _opened(source)
    found = with_ema(archive) if ema else archive
    left_out = tuple(sorted(_of_training(archive)))
    kept = {name: info for name, info in found.tensors.items() if name not in left_out}
    declared = {name: (_kind(found, name, dtype), info.shape) for name, info in kept.items()}

    reader = Ahead(found, safetensors.written_order(declared))

    def tensor(name: str) -> Tensor:
        return _cast(reader.take(name), declared[name][0], name, target)

    safetensors.save_each(target, declared, tensor, {**archive.metadata, "format": "pt"})
    return left_out


def blocks_of(names: Mapping[str, object]) -> tuple[int, int]:
    """How many input and output blocks the U-Net of a file has."""
    return _count(names, INPUT), _count(names, OUTPUT)


def _opened(path: Path) -> Archive:
    if path.is_dir():
        raise BadFile(path, "is a folder: convert it to one file first (`atelier models convert`)")
    archive = respelled(open_any(path))
    found = identify(archive)
    if found is None or found.kind != "checkpoint":
        raise BadFile(path, f"is {'nothing known' if found is None else found.phrase}, and no model in one file")
    return archive


def _archives(first: Path, second: Path, third: Path | None, recipe: Recipe) -> list[Archive]:
    """Raises BadFile where one is no model, of another family, or predicts something else."""
    archives = [_opened(path) for path in (first, second, *(() if third is None else (third,)))]
    _check_alike(archives)
    if third is None and not recipe.blocks and recipe.weight not in {0, 1}:
        _check_predictions(*archives)
    return archives


def _shared(archives: Sequence[Archive]) -> set[str]:
    """The tensors that are merged. Raises BadFile where their shapes are not alike."""
    base, *others = archives
    common = [name for name in base.tensors if all(name in other.tensors for other in others)]
    shared = {name for name in common if _is_merged(base, name)}
    for name in shared:
        _check_shapes(name, base, others)
    return shared


def _check_alike(archives: Sequence[Archive]) -> None:
    """Raises BadFile where one is of another family than the first."""
    first, *others = (_family(archive) for archive in archives)
    for archive, own in zip(archives[1:], others, strict=True):
        if own != first:
            told = f"is a {own} model, which cannot be merged into a {first} model: choose models of one family"
            raise BadFile(archive.path, told)


def _family(archive: Archive) -> str:
    """The title of the family that opens it, else of the one that it is known by."""
    own = _opens(archive)
    if own is not None:
        return own.title
    found = identify(archive)
    return "unknown" if found is None or found.family is None else family_title(found.family)


def _opens(archive: Archive) -> Family | None:
    return next((family for family in families().values() if family.single.detect(archive)), None)


def _check_predictions(first: Archive, second: Archive) -> None:
    """Raises BadFile for models that say that they predict two things: their sum predicts neither."""
    own, other = _predicted(first), _predicted(second)
    if own is not None and other is not None and own != other:
        told = f"predicts {other}, and the first model {own}: what lies between them predicts neither"
        raise BadFile(second.path, f"{told}; choose two that predict the same, or take whole blocks of it (--blocks)")


def _predicted(archive: Archive) -> str | None:
    """None where the file leaves it to its network."""
    family = _opens(archive)
    if family is None or (family.probe is not None and family.probe.is_silent(archive)):
        return None
    with suppress(BadFile):  # of models whose levels of noise cannot be sampled
        return stated_facts(family, archive).prediction
    return None


def _is_merged(archive: Archive, name: str) -> bool:
    info = archive.tensors[name]
    return info.dtype in FLOATS and info.count > 0 and not name.endswith(KEPT) and not name.startswith(EMA)


def _check_shapes(name: str, base: Archive, others: Sequence[Archive]) -> None:
    """A model that is given more than the latent may take what reads the latent from one that is not."""
    own = base.tensors[name].shape
    for other in others:
        shape = other.tensors[name].shape
        narrower = len(shape) == len(own) == 4 and shape[1] < own[1] and (shape[0], *shape[2:]) == (own[0], *own[2:])
        if shape != own and not narrower:
            raise BadFile(
                other.path,
                f"has {name} of the shape {list(shape)} where the first model has {list(own)}: they are of two kinds, "
                "and one for inpainting or editing has to be the first",
            )


def _combined(tensors: Sequence[Tensor], weight: float) -> Tensor:
    """In float32, in the input channels that all have; the tensors are changed."""
    own = tensors[0]
    if any(tensor.shape != own.shape for tensor in tensors):
        least = min(tensor.shape[1] for tensor in tensors)
        tensors = [tensor[:, :least] for tensor in tensors]
    part, second, *rest = tensors
    if rest:
        part.add_(second.sub_(rest[0]), alpha=weight)
    else:
        part.mul_(1 - weight).add_(second, alpha=weight)
    return own


def _sound(tensor: Tensor, name: str, path: Path) -> Tensor:
    """Raises BadFile for what would spoil the other model, too."""
    if not bool(tensor.isfinite().all()):
        raise BadFile(path, f"has NaN or infinity in {name}: it is damaged, get it again")
    return tensor


def _kind(archive: Archive, name: str, dtype: str | None) -> str:
    stored = archive.tensors[name].dtype
    return KINDS[dtype] if dtype is not None and stored in FLOATS else stored


def _cast(tensor: Tensor, kind: str, name: str, target: Path) -> Tensor:
    """Raises BadFile where the numbers do not fit."""
    import torch

    dtype: torch.dtype = getattr(torch, safetensors.TORCH_NAMES[kind])
    if not dtype.is_floating_point:
        return tensor
    result = tensor.to(dtype)
    if bool((~result.isfinite() & tensor.isfinite()).any()):
        raise BadFile(target, f"was not written: {name} has values too large for it; add --dtype fp32 or --dtype bf16")
    return result


def _count(names: Mapping[str, object], prefix: str) -> int:
    number = 0
    while any(name.startswith(f"{prefix}{number}.") for name in names):
        number += 1
    return number


def _places(base: Archive, recipe: Recipe) -> dict[str, int]:
    """Which of the block weights is each tensor's. Raises BadInput where there are too many or too few, or one is no
    weight."""
    inputs, outputs = blocks_of(base.tensors)
    blocks = 1 + inputs + 1 + outputs
    weights = (recipe.weight, *recipe.blocks)
    if not all(-LARGEST_WEIGHT <= weight <= LARGEST_WEIGHT for weight in weights):
        raise BadInput(
            f"a weight of {next(w for w in weights if not abs(w) <= LARGEST_WEIGHT):g}: -10 to 10 can be used"
        )
    if recipe.blocks and len(recipe.blocks) != blocks:
        raise BadInput(
            f"--blocks: {len(recipe.blocks)} weights, and this model needs {blocks}: one for what is in no block, "
            f"{inputs} for its input blocks, one for the middle, {outputs} for its output blocks"
        )
    return {name: _place(name, inputs, outputs) for name in base.tensors}


def _place(name: str, inputs: int, outputs: int) -> int:
    """0: text encoders, autoencoder, time; then the blocks; the last layers go with the last block."""
    if name.startswith(INPUT):
        return 1 + int(name.removeprefix(INPUT).partition(".")[0])
    if name.startswith(MIDDLE):
        return 1 + inputs
    if name.startswith(OUTPUT):
        return 2 + inputs + int(name.removeprefix(OUTPUT).partition(".")[0])
    return 1 + inputs + outputs if name.startswith(LAST) else 0


def _metadata(archives: Sequence[Archive], recipe: Recipe) -> dict[str, str]:
    """That of the first model, and what was done, in the words of A1111's merger."""
    cache = HashCache()
    hashes = [cache.sha256(archive.path) for archive in archives]
    told: dict[str, object] = {
        "type": "atelier",
        "interp_method": "Add difference" if len(archives) == 3 else "Weighted sum",
        "multiplier": recipe.weight,
        **({"block_weights": list(recipe.blocks)} if recipe.blocks else {}),
    }
    keys = ("primary_model_hash", "secondary_model_hash", "tertiary_model_hash")
    told |= dict(zip(keys, hashes, strict=False))
    names = ", ".join(archive.path.stem for archive in archives)
    stale = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash")
    kept = {key: value for key, value in archives[0].metadata.items() if key not in stale}
    return {**kept, "format": "pt", RECIPE: json.dumps(told), FROM: names}


def _of_training(archive: Archive) -> Iterator[str]:
    """The tensors that nothing needs that generates: running means, and what the family of the file says of others."""
    family = _opens(archive)
    for name in archive.tensors:
        tolerated = family is not None and family.single.tolerated(name) and name not in family.single.markers
        if name.startswith(EMA) or tolerated:
            yield name
