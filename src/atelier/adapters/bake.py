"""Models with adapters in their weights, to be written: what a network is with them attached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from atelier.adapters.joining import Weighted, changed
from atelier.adapters.spelling import parts
from atelier.checkpoints.checkpoint import Checkpoint
from atelier.families.facts import Facts, LatentFormat
from atelier.families.family import Ends, Family
from atelier.families.part import PartSpec
from atelier.families.words import Tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Baked:
    """A model that `checkpoints.write` writes. dtype: what its floating tensors are before anything is added, None: as
    they are stored."""

    model: Checkpoint
    adapters: Sequence[Weighted]
    dtype: torch.dtype | None = None

    @property
    def family(self) -> Family:
        return self.model.family

    @property
    def facts(self) -> Facts:
        return self.model.facts

    @property
    def latent(self) -> LatentFormat:
        return self.model.latent

    @property
    def ends(self) -> Ends:
        return self.model.ends

    @property
    def size(self) -> int:
        return self.model.size

    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]:
        return self.model.tokenizers

    @property
    def metadata(self) -> Mapping[str, str]:
        """That of the model, and what was added to it."""
        added = ", ".join(f"{file.path.stem}:{strength:g}" for file, strength in self.adapters)
        return {**self.model.metadata, "modelspec.merged_from": f"{self.model.name}, {added}"}

    def has(self, part: PartSpec[Any, Any]) -> bool:
        return self.model.has(part)

    def spec(self, part: PartSpec[S, Any]) -> S:
        return self.model.spec(part)

    def tensors(self, part: PartSpec[Any, Any]) -> Mapping[str, Tensor]:
        plain = self.model.tensors(part, self.dtype)
        if part.name not in {own.name for own in parts(self.family)}:
            return plain
        return {**plain, **changed(self.model, part.name, plain, self.adapters)}
