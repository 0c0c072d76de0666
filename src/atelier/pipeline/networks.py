"""From the tags of a prompt to what parts of a model are borrowed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from atelier.pipeline.resources import Adapted, Merged
from atelier.prompt import Network, Strength
from atelier.request.resolved import AdapterRef, Resolved, ResolvedRegions

BASE = "BASE"
"""The block of what is in none: of the text encoders too."""


@dataclass(frozen=True, slots=True)
class Borrowed:
    """What a prompt's text encoders and its denoiser are borrowed with."""

    text: Adapted
    denoiser: Adapted


def borrowed(networks: Sequence[Network], resolved: Resolved) -> Borrowed:
    """What the tags of one prompt ask for. What has no file among those of `resolved` is left out."""
    files = {(ref.kind, ref.name): ref for ref in resolved.adapters}
    found = [(files[key], own.strength()) for own in networks if (key := (own.type, own.name)) in files]
    loras = [(file, strength) for file, strength in found if file.kind == "lora"]
    return Borrowed(Adapted(tuple(_of_text(loras)), resolved.inversions), Adapted(tuple(_of_denoiser(found))))


def divides_networks(resolved: Resolved) -> bool:
    """Whether regions can have networks of their own: each must be denoised by itself for that."""
    return isinstance(resolved.regions, ResolvedRegions) and resolved.regions.method == "latent"


def of_regions(
    everywhere: Sequence[Network], regions: Sequence[Sequence[Network]], resolved: Resolved
) -> tuple[Borrowed, ...]:
    """What each region asks for: the tags of the image's prompt, then its own. None where no region has any."""
    if not divides_networks(resolved) or not any(regions):
        return ()
    return tuple(borrowed((*everywhere, *own), resolved) for own in regions)


def _of_text(loras: Sequence[tuple[AdapterRef, Strength]]) -> Iterator[Merged]:
    for file, strength in loras:
        acting = strength.te * dict(strength.blocks).get(BASE, 1.0)
        if acting:
            yield Merged(file, acting, strength.rank)


def _of_denoiser(found: Sequence[tuple[AdapterRef, Strength]]) -> Iterator[Merged]:
    """Hypernetworks act on it alone, with one strength."""
    for file, strength in found:
        if file.kind == "hypernet" and strength.te:
            yield Merged(file, strength.te)
        elif file.kind == "lora" and strength.unet and strength.lasting[0] < strength.lasting[1]:
            yield Merged(file, strength.unet, strength.rank, strength.blocks, strength.lasting)
