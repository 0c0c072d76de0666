"""Models in another layout or precision: checked before anything is written, and whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.runtime.targets import Layout
from atelier.weights.formats.safetensors import Tell, untold

if TYPE_CHECKING:
    from atelier.checkpoints.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is written. dtype: fp32, fp16 or bf16, None as it is; as_variant: whether the weights of a folder are called
    after it; overwrite: whether what is there may be replaced."""

    layout: Layout
    dtype: str | None = None
    as_variant: bool = False
    overwrite: bool = False


def check_whole(checkpoint: Checkpoint, tell: Tell = untold) -> None:
    """Builds the networks without reading their tensors: what could not be generated with is not written either.

    Raises BadFile.
    """
    parts = [part for part in checkpoint.family.parts if checkpoint.has(part)]
    for number, part in enumerate(parts):
        tell(number, len(parts))
        checkpoint.load(part)


def convert(checkpoint: Checkpoint, target: Path, how: Conversion, tell: Tell = untold) -> None:
    """Writes a model that was checked. tell: is told how much is done, and may raise to stop; nothing is left then.

    Raises BadFile, BadInput, StorageFull.
    """
    from atelier.checkpoints.preview import with_preview
    from atelier.checkpoints.write import write_diffusers, write_ldm
    from atelier.weights.cast import precision

    source = with_preview(checkpoint)
    dtype = None if how.dtype is None else precision(how.dtype)
    if how.layout == "ldm":
        write_ldm(source, target, dtype, tell=tell)
    else:
        variant = how.dtype if how.as_variant else None
        write_diffusers(source, target, dtype, variant=variant, overwrite=how.overwrite, tell=tell)
