"""What the commands on models share: where models are looked for, and in which precision they are written."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from atelier.errors import BadFile

if TYPE_CHECKING:
    from atelier.runtime.library import Library


class Precision(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"


def library_of(folders: list[Path] | None) -> Library:
    """The models in these folders, of none those of the environment. Raises BadFile for what is no folder."""
    from atelier import compose
    from atelier.runtime.library import Library

    for folder in folders or ():
        if not folder.is_dir():
            raise BadFile(folder, "is no folder with models: there is none of that name")
    return Library(tuple(folders)) if folders else compose.library()
