"""Reading the folders that diffusers writes: where the weights lie, and what the configurations beside them say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atelier.errors import BadFile
from atelier.families.config import Config
from atelier.families.facts import Facts
from atelier.families.family import Family
from atelier.families.shapes import Shapes
from atelier.weights.archive import Archive, Stored, open_file, open_index

INDEX, CONFIG = "model_index.json", "config.json"
SCHEDULER = Path("scheduler") / "scheduler_config.json"
CFG_SCALE, STEPS = "_cfg_scale", "_steps"
"""Ours, in the index; diffusers passes over keys that begin so."""
VARIANTS = ("fp16", "bf16", "fp32", "non_ema")
PICKLED = (".bin", ".ckpt", ".pt")


def archive_in(folder: Path, stem: str, variant: str | None = None) -> Archive:
    """The weights called `stem` in a folder: whole or in shards, plain or as a variant (fp16, …), plain ones first.

    `variant` asks for one and no other. Raises BadFile, also where only pickled weights lie.
    """
    wanted = (variant,) if variant is not None else (None, *VARIANTS)
    for name in wanted:
        for path in _spellings(folder, stem, name):
            if path.is_file():
                return open_index(path) if path.suffix == ".json" else open_file(path)
    sort = "" if variant is None else f" of the variant {variant}"
    pickled = [path.name for path in sorted(folder.glob("*")) if path.suffix in PICKLED]
    also = f"; {pickled[0]} is pickled, and only safetensors files are read" if pickled else ""
    missing = _spellings(folder, stem, variant)[0].name
    others = sorted(path.name for path in folder.glob(f"{stem}*.safetensors"))
    also = f"; {', '.join(others[:3])} {'is' if len(others) == 1 else 'are'} there" if others else also
    raise BadFile(folder, f"holds no weights{sort}: {missing} is not there{also}")


def _spellings(folder: Path, stem: str, variant: str | None) -> tuple[Path, ...]:
    if variant is None:
        return folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    names = (
        f"{stem}.{variant}.safetensors",
        f"{stem}.safetensors.index.{variant}.json",
        f"{stem}.{variant}.safetensors.index.json",
    )
    return tuple(folder / name for name in names)


def archives(folder: Path, family: Family, variant: str | None = None) -> dict[str, Archive]:
    """The weights of every part; those of the optional ones only where their folder is."""
    there = [part for part in family.parts if part.required or (folder / part.folder).is_dir()]
    return {part.name: archive_in(folder / part.folder, part.stem, variant) for part in there}


def facts(index: Config, family: Family, found: Mapping[str, Stored]) -> Facts:
    """What the configurations say. Raises BadFile for what cannot be built here, or does not agree with the weights."""
    folder, known = index.path.parent, Facts(cfg_scale=index.scale(CFG_SCALE), steps=index.optional(STEPS))
    if family.folder is not None:
        known = family.folder.read(known, Config.read(folder / SCHEDULER))
    for part in family.parts:
        settings = part.network.settings
        if settings is not None and part.name in found:
            config = Config.read(folder / part.folder / CONFIG)
            known = settings.read(known, part.name, config, Shapes.of(found[part.name]))
    return known
