"""A model put together from several files: a denoiser, an autoencoder, text encoders, each whatever file has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.folder import archive_in
from atelier.checkpoints.kind import identify
from atelier.checkpoints.kinds import text_encoder, unet, vae
from atelier.checkpoints.latent_hints import SCALES, stated_scale
from atelier.checkpoints.opening import carried, families, open_checkpoint, stated_facts, stored_in
from atelier.checkpoints.spelling import respelled
from atelier.errors import BadFile
from atelier.families.facts import Facts
from atelier.families.family import Family
from atelier.families.part import PartSpec
from atelier.families.parts import TEXT
from atelier.families.parts.openclip import BIG_G
from atelier.families.shapes import Shapes
from atelier.weights.archive import Archive, Stored, open_any
from atelier.weights.names.name import Layout

OUTER = ("model.", "cond_stage_model.", "conditioner.embedders.0.", "conditioner.embedders.1.")
PREFIXES = tuple(dict.fromkeys(("", *OUTER, *unet.PREFIXES, *vae.PREFIXES, *text_encoder.PREFIXES)))
"""What may stand before the names of a part in a file of its own, or of another family: all that is recognised."""
CLIP_WIDTHS = {TEXT.name: 768, BIG_G.name: 1280}
"""Of the published towers of families that read several: what tells files of them apart, whose layers are alike."""
LAYOUTS: tuple[Layout, ...] = ("ldm", "diffusers")
ROUNDED = 1e-3
"""So much may two numbers that say the same scale differ, as a share."""
NO_WIDTHS: Mapping[str, int] = MappingProxyType({})
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
        parts |= _found(vae, [part], base.facts)
    towers = [tower.part for tower in family.towers]
    for file in dict.fromkeys(text_encoders):
        found = _found(file, towers, base.facts, _widths(base))
        towers = [tower for tower in towers if tower.name not in found]
        parts |= found
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
        if any(name.startswith(part.prefixes) for name in archive.tensors):
            parts[part.name] = stored_in(archive, part, family)
    denoiser = family.part(family.denoiser)
    assert denoiser is not None
    if denoiser.name not in parts:
        parts |= _found(path, [denoiser], facts)
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


def _widths(base: Checkpoint) -> Mapping[str, int]:
    """How wide the text encoders are that a model has, by the names of their parts."""
    return {tower.part.name: base.spec(tower.part).width for tower in base.family.towers if base.has(tower.part)}


def _found(
    path: Path, parts: Sequence[PartSpec[Any, Any]], facts: Facts, widths: Mapping[str, int] = NO_WIDTHS
) -> dict[str, Stored]:
    """Those of the parts that a file has, and where. Raises BadFile where it has none."""
    if path.is_dir():
        return _in_folder(path, parts, facts, widths)
    archive = respelled(open_any(path))
    found: dict[str, Stored] = {}
    for part in parts:
        taken = {stored.prefix for stored in found.values()}
        places = (stored for stored in _places(archive, part) if stored.prefix not in taken)
        stored = next((stored for stored in places if _fits(stored, part, facts, widths)), None)
        if stored is not None:
            found[part.name] = stored
    if not found:
        identity = identify(archive)
        what = "nothing known" if identity is None else identity.phrase
        raise BadFile(path, f"is {what}: it has no {_wanted(parts)} that fits this model")
    return found


def _in_folder(
    path: Path, parts: Sequence[PartSpec[Any, Any]], facts: Facts, widths: Mapping[str, int]
) -> dict[str, Stored]:
    """The same in a folder of diffusers: of one network, or of a whole model. Raises BadFile."""
    found: dict[str, Stored] = {}
    for part in parts:
        for place in (path / part.folder, path):
            with suppress(BadFile):
                stored = Stored(archive_in(place, part.stem), "diffusers", "", _is_beside)
                taken = {own.archive.path for own in found.values()}
                if stored.archive.path not in taken and _fits(stored, part, facts, widths):
                    found.setdefault(part.name, stored)
    if not found:
        raise BadFile(path, f"is a folder without weights for the {_wanted(parts)} of this model")
    return found


def _wanted(parts: Sequence[PartSpec[Any, Any]]) -> str:
    return parts[0].title if parts else "further text encoder"


def _places(archive: Archive, part: PartSpec[Any, Any]) -> Iterator[Stored]:
    for prefix in (part.prefix, *PREFIXES):
        if not prefix or any(name.startswith(prefix) for name in archive.tensors):
            for layout in LAYOUTS:
                yield Stored(archive, layout, prefix, _is_beside)


def _is_beside(name: str) -> bool:
    return name.endswith(OF_RUNNING) or name.startswith(OF_TRAINING)


def _fits(stored: Stored, part: PartSpec[Any, Any], facts: Facts, widths: Mapping[str, int]) -> bool:
    """Whether the tensors there are those of such a network, no more and no less: as wide as the one in its place, or
    with a width that is not another's."""
    from atelier.weights.load import match

    try:
        spec = part.network.infer(Shapes.of(stored), facts.of(part.name))
        match(stored, part.network.names(spec))
    except BadFile:
        return False
    if part.name in widths:
        return spec.width == widths[part.name]
    published = CLIP_WIDTHS.get(part.name)
    return published is None or spec.width == published or spec.width not in CLIP_WIDTHS.values()
