"""The kinds of tokenizers that text encoders read with: how they are read, and what transformers calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from atelier.weights.tokenizer import ClipTokenizer
    from atelier.weights.unigram import UnigramTokenizer


class Tokenizer(Protocol):
    """A vocabulary, and how long a row of ids is."""

    @property
    def positions(self) -> int:
        """Ids in a row, with the marks."""
        ...

    @property
    def size(self) -> int:
        """How many rows a token embedding needs."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids without marks, as many as it takes."""
        ...

    def same_as(self, other: object) -> bool:
        """Whether both give the same rows for every text."""
        ...

    def to_json(self) -> str:
        """As one text, for the metadata of a single file."""
        ...

    def save(self, folder: Path) -> None:
        """Writes what transformers reads. Raises BadFile or StorageFull."""
        ...


@dataclass(frozen=True, slots=True)
class Words:
    """A kind of tokenizer. from_folder reads what `save` wrote or diffusers did, from_json what `to_json` made; both
    raise BadFile. called: its class in transformers."""

    from_folder: Callable[[Path], Tokenizer]
    from_json: Callable[[str, Path], Tokenizer]
    called: str


def _clip_folder(folder: Path) -> ClipTokenizer:
    from atelier.weights.tokenizer import ClipTokenizer

    return ClipTokenizer.from_folder(folder)


def _clip_json(text: str, source: Path) -> ClipTokenizer:
    from atelier.weights.tokenizer import ClipTokenizer

    return ClipTokenizer.from_json(text, source)


def _t5_folder(folder: Path) -> UnigramTokenizer:
    from atelier.weights.unigram import UnigramTokenizer

    return UnigramTokenizer.from_folder(folder)


def _t5_json(text: str, source: Path) -> UnigramTokenizer:
    from atelier.weights.unigram import UnigramTokenizer

    return UnigramTokenizer.from_json(text, source)


CLIP_WORDS = Words(_clip_folder, _clip_json, "CLIPTokenizer")
T5_WORDS = Words(_t5_folder, _t5_json, "T5TokenizerFast")
