"""The layers that a file of an adapter names, without the model that it is for: those of the published ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from atelier.adapters.read import AdapterFile
from atelier.adapters.spelling import Named, named, parts
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.checkpoints.kind import Seen
from atelier.checkpoints.kinds import lora
from atelier.errors import BadFile
from atelier.families.family import Family
from atelier.families.sd1 import SD1
from atelier.families.sd2 import SD2
from atelier.families.sd3 import SD3
from atelier.families.sdxl import SDXL
from atelier.families.sdxl_refiner import REFINER
from atelier.models.clip import TextSpec
from atelier.models.mmdit import MMDiTSpec
from atelier.models.t5 import T5Spec
from atelier.models.unet import UNetSpec
from atelier.weights.archive import counted

DEEPEST = 38
"""Blocks of Stable Diffusion 3.5 large, whose names are also those of every smaller one."""
XL = UNetSpec(
    widths=(320, 640, 1280), depth=(0, 2, 10), mid_depth=10, heads=(5, 10, 20), context=2048, linear_proj=True
)
OF_REFINER = replace(XL, widths=(384, 768, 1536, 1536), depth=(0, 4, 4, 0), mid_depth=4, heads=(6, 12, 24, 24))
SD2_TEXT, BIG_G = TextSpec(width=1024, layers=24, heads=16), TextSpec(width=1280, layers=32, heads=20)
LARGE = MMDiTSpec(depth=DEEPEST + 1, qk_norm=True, dual=tuple(range(DEEPEST)))
"""One block more than there are, since a last block lacks some layers."""
PUBLISHED: tuple[tuple[Family, tuple[object, ...]], ...] = (
    (SD1, (TextSpec(), UNetSpec())),
    (SD2, (SD2_TEXT, UNetSpec(linear_proj=True))),
    (SDXL, (TextSpec(), BIG_G, XL)),
    (REFINER, (BIG_G, OF_REFINER)),
    (SD3, (TextSpec(), BIG_G, T5Spec(), LARGE)),
)
"""What shapes the networks of every family: the text encoders, then the denoiser. Only the names of layers are made of
it, so that widths hardly matter."""


@dataclass(frozen=True, slots=True)
class Known:
    """The layers of a model, by every name that files have for them (`spelling.named`)."""

    family: Family
    layers: Mapping[str, tuple[Named, ...]]


def of_model(model: Checkpoint) -> Known:
    """Those of a model on disk. Raises BadFile for one that is broken."""
    specs = {part.name: model.spec(part) for part in parts(model.family) if model.has(part)}
    return Known(model.family, named(model.family, specs))


def known_for(file: AdapterFile) -> Known:
    """Those of the published models that the file is for; of its family first. Raises BadFile where no family has all
    layers of the file."""
    told = lora.family(Seen.of(file.archive))
    best: set[str] = set(file.layers)
    for found in sorted(_published(), key=lambda own: not own.family.name.startswith(told or " ")):
        missing = file.layers.keys() - found.layers.keys()
        if not missing:
            return found
        best = min(best, missing, key=len)
    raise BadFile(file.path, f"has layers that no published model has ({counted(best)}): name its model with --base")


@cache
def _published() -> tuple[Known, ...]:
    return tuple(Known(family, named(family, dict(_specs(family, specs)))) for family, specs in PUBLISHED)


def _specs(family: Family, specs: tuple[object, ...]) -> Iterator[tuple[str, Any]]:
    return ((part.name, spec) for part, spec in zip(parts(family), specs, strict=True))
