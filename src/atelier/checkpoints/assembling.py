"""A model put together from several files: a denoiser, an autoencoder, text encoders, each whatever file has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.folder import archive_in
from atelier.checkpoints.kind import identify
from atelier.checkpoints.latent_hints import SCALES, stated_scale
from atelier.checkpoints.opening import carried, families, open_checkpoint, stated_facts
from atelier.checkpoints.spelling import respelled
from atelier.errors import BadFile
from atelier.families.facts import Facts
from atelier.families.family import Family
from atelier.families.part import PartSpec
from atelier.families.shapes import Shapes
from atelier.weights.archive import Archive, Stored, open_any
from atelier.weights.names.name import Layout

PREFIXES = (
    *("", "vae.", "unet.", "text_encoder.", "model.", "diffusion_model."),
    *("cond_stage_model.", "conditioner.embedders.0.", "conditioner.embedders.1."),
)
"""What may stand before the names of a part in a file of its own, or of another family."""
LAYOUTS: tuple[Layout, ...] = ("ldm", "diffusers")
ROUNDED = 1e-3
"""So much may two numbers that say the same scale differ, as a share."""
OF_RUNNING = ("position_ids", "logit_scale", "encoder.embed_tokens.weight", "attn_mask")
"""What the names of things end with that files of single parts have beside their weights, or have twice."""
OF_TRAINING = ("model_ema.", "loss.", "first_stage_model.model_ema.", "first_stage_model.loss.")
"""What they begin with."""


def assembled(path: Path, vae: Path | None = None, text_encoders: Sequence[Path] = ()) -> Checkpoint:
    """The model at `path`, or around the denoiser there, with an autoencoder and text encoders from other files.

    Reads headers only. Raises BadFile for a file without such a part of the family, and where a part is missing.
    """
    if not vae and not text_encoders:
        return open_checkpoint(path)
    base = _base(path)
    family, parts = base.family, dict(base.parts)
    if vae is not None:
        part = family.part(family.autoencoder)
        assert part is not None
        parts[part.name] = _found(vae, [part], base.facts)[1]
    towers = [tower.part for tower in family.towers]
    for file in text_encoders:
        part, stored = _found(file, towers, base.facts)
        towers.remove(part)
        parts[part.name] = stored
    missing = [part for part in family.parts if part.required and part.name not in parts]
    if missing:
        option = "--vae" if missing[0].name == family.autoencoder else "--text-encoder"
        raise BadFile(path, f"has no {missing[0].title}: name a file that has one ({option})")
    made = replace(base, parts=MappingProxyType(parts))
    if vae is not None:
        _check_latents(vae, made, base)
    return made


def _check_latents(vae: Path, made: Checkpoint, base: Checkpoint) -> None:
    """Raises BadFile for an autoencoder whose latents are others than the denoiser's."""
    wanted, latent = made.ends.out_channels, made.latent
    if latent.channels != wanted:
        raise BadFile(vae, f"has latents of {latent.channels} channels, where this model's have {wanted}")
    if base.family.autoencoder in base.parts and base.latent.factor != latent.factor:
        told = f"makes {latent.factor} pixels of a position of the latent, where this model makes {base.latent.factor}"
        raise BadFile(vae, told)
    stated = stated_scale(vae)
    if stated is not None and abs(stated / latent.scale - 1) > ROUNDED:
        whose = f", of {SCALES[stated]}" if stated in SCALES else ""
        raise BadFile(vae, f"has latents of the scale {stated:g}{whose}, where this model's have {latent.scale:g}")


def _base(path: Path) -> Checkpoint:
    """A whole model, or as much of one as a file has: at least a denoiser. Raises BadFile."""
    if path.is_dir():
        return open_checkpoint(path)
    archive = respelled(open_any(path))
    family = _family(archive)
    facts = stated_facts(family, archive)
    parts: dict[str, Stored] = {}
    for part in family.parts:
        if any(name.startswith(part.prefix) for name in archive.tensors):
            parts[part.name] = Stored(archive, "ldm", part.prefix, family.single.tolerated)
    denoiser = family.part(family.denoiser)
    assert denoiser is not None
    if denoiser.name not in parts:
        parts[denoiser.name] = _found(path, [denoiser], facts)[1]
    return Checkpoint(path, family, "ldm", facts, MappingProxyType(parts), (), carried(archive.metadata))


def _family(archive: Archive) -> Family:
    """The family of a model, or of a denoiser alone. Raises BadFile."""
    own = next((family for family in families().values() if family.single.detect(archive)), None)
    found = identify(archive)
    if own is None and found is not None and found.kind in {"checkpoint", "unet"}:
        own = families().get(f"{found.family}-{found.variant}".replace("_", "-")) or families().get(found.family or "")
    if own is None:
        what = "nothing known" if found is None else found.phrase
        raise BadFile(archive.path, f"is {what}, and no denoiser of a family that can be read")
    return own


def _found(path: Path, parts: Iterable[PartSpec[Any, Any]], facts: Facts) -> tuple[PartSpec[Any, Any], Stored]:
    """The first of the parts that a file has, and where. Raises BadFile where it has none."""
    tried = list(parts)
    if path.is_dir():
        return _in_folder(path, tried, facts)
    archive = respelled(open_any(path))
    for part in tried:
        for stored in _places(archive, part):
            if _fits(stored, part, facts):
                return part, stored
    identity = identify(archive)
    what = "nothing known" if identity is None else identity.phrase
    raise BadFile(path, f"is {what}: it has no {_wanted(tried)} that fits this model")


def _in_folder(path: Path, parts: Sequence[PartSpec[Any, Any]], facts: Facts) -> tuple[PartSpec[Any, Any], Stored]:
    """The same in a folder of diffusers: of one network, or of a whole model. Raises BadFile."""
    for part in parts:
        for place in (path, path / part.folder):
            with suppress(BadFile):
                stored = Stored(archive_in(place, part.stem), "diffusers", "", _is_beside)
                if _fits(stored, part, facts):
                    return part, stored
    raise BadFile(path, f"is a folder without weights for the {_wanted(parts)} of this model")


def _wanted(parts: Sequence[PartSpec[Any, Any]]) -> str:
    return parts[0].title if parts else "further text encoder"


def _places(archive: Archive, part: PartSpec[Any, Any]) -> Iterator[Stored]:
    for prefix in (part.prefix, *PREFIXES):
        if not prefix or any(name.startswith(prefix) for name in archive.tensors):
            for layout in LAYOUTS:
                yield Stored(archive, layout, prefix, _is_beside)


def _is_beside(name: str) -> bool:
    return name.endswith(OF_RUNNING) or name.startswith(OF_TRAINING)


def _fits(stored: Stored, part: PartSpec[Any, Any], facts: Facts) -> bool:
    """Whether the tensors there are those of such a network, no more and no less."""
    from atelier.weights.load import match

    try:
        spec = part.network.infer(Shapes.of(stored), facts.of(part.name))
        match(stored, part.network.names(spec))
    except BadFile:
        return False
    return True
