"""A base with what was learned in the places of its own weights: what an export writes, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from torch import Tensor

from atelier.checkpoints.checkpoint import Checkpoint
from atelier.families.facts import Facts, LatentFormat
from atelier.families.family import Ends, Family
from atelier.families.part import PartSpec
from atelier.families.words import Tokenizer
from atelier.models.unet import UNetSpec
from atelier.train.teaching.inpainting import INPUT, with_channels

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class TaughtModel:
    """A `checkpoints.write.Source`. learned: tensors by our names, of parts by name; channels: of the denoiser's input,
    which are more than the base's where it becomes an inpainting model; metadata: what it says of itself.

    What was not learned stays in the base's files until it is written.
    """

    base: Checkpoint
    learned: Mapping[str, Mapping[str, Tensor]]
    channels: int
    metadata: Mapping[str, str]

    @property
    def family(self) -> Family:
        return self.base.family

    @property
    def facts(self) -> Facts:
        return self.base.facts

    @property
    def latent(self) -> LatentFormat:
        return self.base.latent

    @property
    def ends(self) -> Ends:
        return self.base.ends._replace(in_channels=self.channels)

    @property
    def size(self) -> int:
        return self.base.size

    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]:
        return self.base.tokenizers

    def has(self, part: PartSpec[Any, Any]) -> bool:
        return self.base.has(part)

    def spec(self, part: PartSpec[S, Any]) -> S:
        spec: Any = self.base.spec(part)
        is_wider = part.name == self.family.denoiser and isinstance(spec, UNetSpec)
        return cast("S", replace(spec, in_channels=self.channels) if is_wider else spec)

    def tensors(self, part: PartSpec[Any, Any]) -> Mapping[str, Tensor]:
        found = {**self.base.tensors(part), **self.learned.get(part.name, {})}
        if part.name == self.family.denoiser and INPUT in found:
            found[INPUT] = with_channels(found[INPUT], self.channels)
        return found
