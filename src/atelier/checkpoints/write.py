"""Writing a model in either public layout, whatever its family."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from atelier.checkpoints.checkpoint import trained_size
from atelier.checkpoints.folder import CFG_SCALE, CONFIG, INDEX, SCHEDULER, STEPS
from atelier.checkpoints.opening import SPEC, families
from atelier.errors import BadInput, StorageFull
from atelier.families.facts import Facts, LatentFormat
from atelier.families.family import Ends, Family, Tower
from atelier.families.part import PartSpec, Surroundings
from atelier.families.parts.written import WRITTEN_FOR
from atelier.families.shapes import Shapes
from atelier.families.words import Tokenizer
from atelier.weights.formats import safetensors
from atelier.weights.formats.atomic import new_file, new_folder
from atelier.weights.formats.safetensors import Tell, untold

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from atelier.weights.names.name import Layout

S = TypeVar("S")


class Source(Protocol):
    """A model that can be written: a Checkpoint, or Modules in memory."""

    @property
    def family(self) -> Family: ...
    @property
    def facts(self) -> Facts: ...
    @property
    def latent(self) -> LatentFormat: ...
    @property
    def ends(self) -> Ends: ...
    @property
    def size(self) -> int: ...
    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...
    def has(self, part: PartSpec[Any, Any]) -> bool: ...
    def spec(self, part: PartSpec[S, Any]) -> S: ...
    def tensors(self, part: PartSpec[Any, Any]) -> Mapping[str, Tensor]: ...


class Network(Protocol):
    """A module that knows its spec, as those of `atelier.models` do."""

    @property
    def spec(self) -> object: ...
    def state_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Modules:
    """Networks in memory, by the names of the family's parts, as training has them.

    tokenizers: in the order of the family's towers, of those that are there; facts: those of the single networks are
    taken from their specs.
    """

    family: Family
    networks: Mapping[str, Network]
    tokenizers: tuple[Tokenizer, ...]
    facts: Facts
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def latent(self) -> LatentFormat:
        return self.family.latent(self._shapes(self.family.autoencoder), self.facts)

    @property
    def ends(self) -> Ends:
        return self.family.ends(self._shapes(self.family.denoiser))

    @property
    def size(self) -> int:
        return trained_size(self.family, self.facts, self.latent)

    def has(self, part: PartSpec[Any, Any]) -> bool:
        return part.name in self.networks

    def spec(self, part: PartSpec[S, Any]) -> S:
        return cast("S", self.networks[part.name].spec)

    def tensors(self, part: PartSpec[Any, Any]) -> Mapping[str, Tensor]:
        return self.networks[part.name].state_dict()

    def _shapes(self, name: str) -> Shapes:
        part = self.family.part(name)
        assert part is not None
        tensors = _stored(self, part, "diffusers", "")
        return Shapes("the networks in memory", "diffusers", {name: tuple(t.shape) for name, t in tensors.items()})


def written() -> frozenset[str]:
    """What `write_diffusers` puts into a folder, of any family."""
    known = families().values()
    parts = {part.folder for family in known for part in family.parts}
    tokenizers = {tower.tokenizer for family in known for tower in family.towers}
    more = {Path(place).parts[0] for family in known if family.folder is not None for place in family.folder.more}
    return frozenset({INDEX, SCHEDULER.parts[0], *parts, *tokenizers, *more})


def write_ldm(source: Source, path: str | Path, dtype: torch.dtype | None = None, *, tell: Tell = untold) -> None:
    """One .safetensors file with ldm names, floating tensors as `dtype` (None: as they are).

    What the shapes do not say stands in the metadata (atelier.spec, and atelier.tokenizer where it is not the family's
    own), and as the empty tensors that the community knows. tell: as in `safetensors.save_each`. Raises BadInput,
    BadFile or StorageFull.
    """
    import torch

    from atelier.weights.cast import cast

    facts, tensors = _complete(source), dict[str, "Tensor"]()
    for part in _parts(source):
        tensors |= _stored(source, part, "ldm", part.prefix)
    tensors |= {name: torch.empty(0) for name, says in source.family.single.markers.items() if says(facts)}
    metadata = {**source.metadata, "format": "pt", SPEC: facts.to_json()}
    for tower, tokenizer in _towers(source):
        if tower.standard is None or not tokenizer.same_as(tower.standard()):
            metadata[f"atelier.{tower.tokenizer}"] = tokenizer.to_json()
    declared = safetensors.declaration({name: _announced(tensor, dtype) for name, tensor in tensors.items()})
    safetensors.save_each(path, declared, lambda name: cast({name: tensors[name]}, dtype)[name], metadata, tell)


def write_diffusers(
    source: Source,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    *,
    variant: str | None = None,
    overwrite: bool = False,
    tell: Tell = untold,
) -> None:
    """A folder that the family's pipeline in diffusers opens with `from_pretrained`, floating tensors as `dtype`.

    variant: what the weights are called after, as in `from_pretrained(folder, variant="fp16")`; None: plain names. The
    folder appears complete or not at all. tell: hears thousandths of the parts. Raises BadFile where it exists and may
    not be overwritten, and BadInput or StorageFull.
    """
    try:
        with new_folder(Path(folder), overwrite=overwrite) as place:
            _fill(place, source, dtype, "" if variant is None else f".{variant}", tell)
    except StorageFull as error:
        raise StorageFull(f"{folder}: the disk is full; free some space or choose another place") from error


def _fill(place: Path, source: Source, dtype: torch.dtype | None, variant: str, tell: Tell) -> None:
    from atelier.weights.cast import cast

    parts = list(_parts(source))
    for number, part in enumerate(parts):
        metadata = {**(source.metadata if part.name == source.family.denoiser else {}), "format": "pt"}
        tensors = cast(_stored(source, part, "diffusers", ""), dtype)
        (place / part.folder).mkdir()
        target = place / part.folder / f"{part.stem}{variant}.safetensors"
        share = _share(tell, number, len(parts))
        safetensors.save_each(target, safetensors.declaration(tensors), tensors.__getitem__, metadata, share)
    write_settings(source, place)


def _share(tell: Tell, number: int, parts: int) -> Tell:
    """Tells of the tensors of one part as thousandths of all parts."""
    return lambda done, total: tell(1000 * number + 1000 * done // total, 1000 * parts)


def write_settings(source: Source, place: Path) -> None:
    """The JSON files and the tokenizers of a diffusers folder, without weights. Raises BadInput, StorageFull."""
    for name, config in _configs(source).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        with new_file(place / name) as file:
            file.write((json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
    for tower, tokenizer in _towers(source):
        tokenizer.save(place / tower.tokenizer)


def _parts(source: Source) -> Iterator[PartSpec[Any, Any]]:
    return (part for part in source.family.parts if source.has(part))


def _towers(source: Source) -> list[tuple[Tower, Tokenizer]]:
    """The text encoders that are there, each with its tokenizer."""
    there = [tower for tower in source.family.towers if source.has(tower.part)]
    return list(zip(there, source.tokenizers, strict=True))


def _stored(source: Source, part: PartSpec[Any, Any], layout: Layout, prefix: str) -> dict[str, Tensor]:
    """One part's tensors as they are stored."""
    from atelier.weights.save import stored_as

    return stored_as(source.tensors(part), part.network.names(source.spec(part)), layout, prefix)


def _announced(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Of the shape and the precision that a tensor will have, without its numbers."""
    import torch

    kept = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
    return torch.empty(tensor.shape, dtype=kept, device="meta")


def _complete(source: Source) -> Facts:
    """The facts with everything that the specs know and the shapes do not."""
    known = replace(source.facts, size=source.size, latent_side=None)
    for part in _parts(source):
        known = known.knowing(part.name, part.network.facts(source.spec(part)))
    return known


def _configs(source: Source) -> dict[Path, Mapping[str, object]]:
    """The JSON files of a diffusers folder, by their place in it. Raises BadInput for what has no such layout."""
    family, facts, layout = source.family, _complete(source), source.family.folder
    if layout is None:
        raise BadInput(f"a {family.title} model has no diffusers layout; write the ldm layout")
    scheduler, networks = layout.write(facts), _settings(source, facts)
    index: dict[str, object] = {
        "_class_name": layout.pipeline(source.ends, source.latent),
        "_diffusers_version": WRITTEN_FOR,
        **({} if facts.cfg_scale is None else {CFG_SCALE: facts.cfg_scale}),
        **({} if facts.steps is None else {STEPS: facts.steps}),
        **layout.index,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        **{tower.tokenizer: [None, None] for tower in family.towers},
        **{tower.tokenizer: ["transformers", tower.words.called] for tower, _ in _towers(source)},
        **{folder: _class(config) for folder, config in networks.items()},
    }
    configs = {Path(folder) / CONFIG: config for folder, config in networks.items() if config is not None}
    more = {Path(place): dict(config) for place, config in layout.more.items()}
    return {Path(INDEX): index, SCHEDULER: scheduler, **configs, **more}


def _settings(source: Source, facts: Facts) -> dict[str, Mapping[str, object] | None]:
    """By folder, the settings of each network that diffusers knows; None for one that the model does not have."""
    tokenizers = {tower.part.name: own for tower, own in _towers(source)}
    found: dict[str, Mapping[str, object] | None] = {}
    for part in source.family.parts:
        settings = part.network.settings
        if settings is not None:
            around = Surroundings(facts, source.latent.factor, tokenizers.get(part.name))
            found[part.folder] = settings.write(source.spec(part), around) if source.has(part) else None
    return found


def _class(config: Mapping[str, object] | None) -> list[object]:
    """The library and the class that a network's settings name."""
    if config is None:
        return [None, None]
    if "_class_name" in config:
        return ["diffusers", config["_class_name"]]
    return ["transformers", cast("list[object]", config["architectures"])[0]]
