"""A family of models as data: how its checkpoints are recognised and what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from atelier.families.config import Config
from atelier.families.facts import Defaults, Facts
from atelier.weights.archive import Archive

if TYPE_CHECKING:
    from atelier.models.clip import ClipText
    from atelier.nn.ports import Conditioning

Part = Literal["unet", "vae", "text", "vision", "projection"]
"""The networks of a model; `projection` is the pair of tensors with which CLIP's towers meet."""


class Encode(Protocol):
    def __call__(self, text_model: ClipText, rows: Sequence[Sequence[int]], clip_skip: int = 1) -> Conditioning:
        """What the U-Net attends to, for each row of token ids; see the family's own function."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """prefixes: what each part's tensors begin with in a single file; tolerated: full names in a single file that may
    be left unread; markers: those among them that say something by being there; in_file, in_folder: whether it is one
    of ours, from the names or from the model_index; file_facts, folder_facts: what the shapes do not say; defaults: of
    a model trained at `size` pixels."""

    name: str
    title: str
    aliases: tuple[str, ...]
    prefixes: Mapping[Part, str]
    tolerated: Callable[[str], bool]
    markers: frozenset[str]
    in_file: Callable[[Archive], bool]
    in_folder: Callable[[Config], bool]
    file_facts: Callable[[Archive], Facts]
    folder_facts: Callable[[Path, Mapping[Part, Archive]], Facts]
    defaults: Callable[[int], Defaults]
    encode: Encode
