"""From the tags of a prompt to what parts of a model are borrowed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atelier.pipeline.resources import Adapted, Merged
from atelier.prompt import Network, Strength
from atelier.request.resolved import AdapterRef, Resolved

BASE = "BASE"
"""The block of what is in none: of the text encoders too."""


@dataclass(frozen=True, slots=True)
class Borrowed:
    """What a prompt's text encoders and its denoiser are borrowed with."""

    text: Adapted
    denoiser: Adapted


def borrowed(networks: Sequence[Network], resolved: Resolved) -> Borrowed:
    """What the tags of one prompt ask for. What has no file among those of `resolved` is left out."""
    files = {ref.name: ref for ref in resolved.adapters}
    loras = [(files[own.name], own.strength()) for own in networks if own.type == "lora" and own.name in files]
    text = tuple(_of_text(loras))
    return Borrowed(Adapted(text, resolved.inversions), Adapted(tuple(_of_denoiser(loras))))


def _of_text(loras: Sequence[tuple[AdapterRef, Strength]]) -> Iterator[Merged]:
    for file, strength in loras:
        acting = strength.te * dict(strength.blocks).get(BASE, 1.0)
        if acting:
            yield Merged(file, acting, strength.rank)


def _of_denoiser(loras: Sequence[tuple[AdapterRef, Strength]]) -> Iterator[Merged]:
    for file, strength in loras:
        if strength.unet:
            yield Merged(file, strength.unet, strength.rank, strength.blocks)
