"""Which settings of guidance belong together, and by which of them they are switched on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from atelier.request.groups import Guidance

USUAL = Guidance()
"""Of a request that says nothing of guidance."""


@dataclass(frozen=True, slots=True)
class Switched:
    """Settings without effect where all of `by` are as usual. flag: what infotexts say of them, on or off."""

    flag: str
    by: tuple[str, ...]
    more: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.by, *self.more)

    def is_off(self, guidance: BaseModel) -> bool:
        return all(getattr(guidance, name) == getattr(USUAL, name) for name in self.by)

    def said(self, guidance: BaseModel) -> Mapping[str, object]:
        """What an infotext says of them: all where they are on, else nothing."""
        if self.is_off(guidance):
            return {}
        return {self.flag: True, **{name: getattr(guidance, name) for name in self.names}}


SWITCHED = (
    Switched("pag_active", ("pag_scale",), ("pag_layers",)),
    Switched("sag_enabled", ("sag_scale",), ("sag_blur_sigma",)),
    Switched("dynamic_thresholding", ("mimic_scale",), ("mimic_percentile", "mimic_phi")),
    Switched("freeu_enabled", ("freeu_b1", "freeu_b2", "freeu_s1", "freeu_s2"), ("freeu_version",)),
)
