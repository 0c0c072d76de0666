"""What a guidance says of itself: by which settings it is absent, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Needed = Literal["U-Net", "image encoder", "transformer"]


@dataclass(frozen=True, slots=True)
class GuidanceSpec:
    """An entry of the catalogue of guidances. Settings are named as in the guidance of a resolved request.

    neutral: the settings that switch it on, with the values at which it is absent: nothing of it is composed, so that
    no bit changes. usual: what people set. needs: what a model must have.
    """

    name: str
    neutral: Mapping[str, float]
    usual: Mapping[str, float]
    needs: frozenset[Needed] = frozenset()
    aliases: tuple[str, ...] = ()

    def is_on(self, settings: Mapping[str, object]) -> bool:
        """Whether these settings ask for it."""
        return any(settings[name] != value for name, value in self.neutral.items())
