"""Reading the folders that diffusers writes: where the weights lie, and what the configurations beside them say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from atelier.errors import BadFile
from atelier.families.config import Config
from atelier.families.facts import Facts
from atelier.families.family import Family
from atelier.families.shapes import Shapes
from atelier.weights.archive import Archive, Stored, open_any, open_index

INDEX, CONFIG = "model_index.json", "config.json"
SCHEDULER = Path("scheduler") / "scheduler_config.json"
CFG_SCALE, STEPS = "_cfg_scale", "_steps"
"""Ours, in the index; diffusers passes over keys that begin so."""
VARIANTS = ("fp16", "bf16", "fp32", "non_ema")
ENDINGS = (".safetensors", ".bin")
NETWORK_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
"""What diffusers calls the weights of a network in a folder, and what transformers does."""
PICKLED_STEMS: Mapping[str, str] = MappingProxyType({TRANSFORMERS_STEM: "pytorch_model"})
"""What transformers calls pickled weights, by what it calls the others."""


def archive_in(folder: Path, stem: str, variant: str | None = None) -> Archive:
    """The weights called `stem` in a folder: whole or in shards, plain or as a variant (fp16, …), plain ones first.

    Pickled ones (.bin) are read where there are no others of the kind. `variant` asks for one and no other. Raises
    BadFile.
    """
    wanted = (variant,) if variant is not None else (None, *VARIANTS)
    for name in wanted:
        for path in _spellings(folder, stem, name):
            if _is_there(path):
                return open_index(path) if path.suffix == ".json" else open_any(path)
    sort = "" if variant is None else f" of the variant {variant}"
    missing = next(_spellings(folder, stem, variant)).name
    others = sorted(path.name for ending in ENDINGS for path in folder.glob(f"{stem}*{ending}"))
    also = f"; {', '.join(others[:3])} {'is' if len(others) == 1 else 'are'} there" if others else ""
    raise BadFile(folder, f"holds no weights{sort}: {missing} is not there{also}")


def _is_there(path: Path) -> bool:
    """Raises BadFile for what cannot be looked at, as in a folder that is somebody else's."""
    try:
        return path.is_file()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error


def _spellings(folder: Path, stem: str, variant: str | None) -> Iterator[Path]:
    for name, ending in ((stem, ENDINGS[0]), (PICKLED_STEMS.get(stem, stem), ENDINGS[1])):
        if variant is None:
            files = f"{name}{ending}", f"{name}{ending}.index.json"
        else:
            index = f"{ending}.index"
            files = f"{name}.{variant}{ending}", f"{name}{index}.{variant}.json", f"{name}.{variant}{index}.json"
        yield from (folder / file for file in files)


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
