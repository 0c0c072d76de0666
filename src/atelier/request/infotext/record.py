"""An infotext as it was found: prompts, pairs as text, and whose dialect it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Infotext:
    """pairs: in A1111's words where there is one, in order, as text. source: the fields of a dialect that is JSON, as
    they were found. dialect: a1111, forge, sdnext, fooocus, …; "text" where there is nothing but a prompt. warnings:
    what its source says and could not be read."""

    prompt: str = ""
    negative_prompt: str = ""
    pairs: Pairs = ()
    dialect: str = "text"
    source: Mapping[str, object] = field(default_factory=dict[str, object])
    warnings: tuple[str, ...] = ()

    def get(self, key: str) -> str | None:
        """The value of a key; of several the last."""
        return dict(self.pairs).get(key)
