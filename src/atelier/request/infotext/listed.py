"""Models and networks that an infotext names in a list alone: `Hashes`, lists of hashes, Civitai's numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from atelier.request.infotext.fields import as_fields
from atelier.request.infotext.networks import TAG, listed_name, squeezed
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.resources import CIVITAI, LORAS, Resource, resources, split_hashes

HASHES, LORA_HASHES, TI_HASHES = "Hashes", "Lora hashes", "TI hashes"
_HASH = re.compile(r"[0-9a-fA-F]{8,64}")
_NETWORKS = LORAS | {"lyco", "embed", "embedding", "textualinversion", "hypernet", "hypernetwork"}
"""Kinds of networks, folded."""


class ListedModel(NamedTuple):
    """The model that `Hashes` names. name: "" where it says only its hash."""

    name: str
    hash: str


def listed_model(found: Infotext) -> ListedModel | None:
    """`{"model": hash}`, or `{"Model:name": hash}` of savers of ComfyUI; None where there is none."""
    for key, value in _hashes(found).items():
        kind, _, name = key.partition(":")
        if kind.casefold() == "model" and _HASH.fullmatch(value):
            return ListedModel(name, value)
    return None


def unfound_model(found: Infotext) -> str | None:
    """A note on a model that Civitai's number alone names, by which none is found here; None where it is named
    otherwise, or not at all."""
    if found.get("Model") or found.get("Model hash") or listed_model(found):
        return None
    numbered = next((r for r in resources(found) if r.kind in {"checkpoint", "model"} and r.version is not None), None)
    if numbered is None:
        return None
    return f"{CIVITAI}: no file is found by the number {numbered.version} of the model {numbered.name!r}, choose one"


def listed_networks(found: Infotext) -> tuple[str, ...]:
    """The keys of the lists that name a network for which no prompt has a tag, or an embedding that no prompt names."""
    tags = {_stem(listed_name(tag)) for text in _prompts(found) for tag in TAG.findall(text)}
    lists: Mapping[str, Iterator[str]] = {
        HASHES: _in_hashes(found),
        LORA_HASHES: (name for name, _ in split_hashes(found.get(LORA_HASHES) or "")),
        TI_HASHES: _unnamed(found),
        CIVITAI: _numbered(found, len(tags)),
    }
    return tuple(key for key, names in lists.items() if any(_stem(name) not in tags for name in names))


def _prompts(found: Infotext) -> tuple[str, ...]:
    hires = (found.get("Hires prompt"), found.get("Hires negative prompt"))
    return (found.prompt, found.negative_prompt, *(text for text in hires if text))


def _hashes(found: Infotext) -> dict[str, str]:
    return {key: value for key, value in as_fields(found.get(HASHES)).items() if isinstance(value, str)}


def _unnamed(found: Infotext) -> Iterator[str]:
    """The embeddings of `TI hashes` whose names are in no prompt."""
    texts = [squeezed(text) for text in _prompts(found)]
    names = (name for name, _ in split_hashes(found.get(TI_HASHES) or ""))
    yield from (f"embedding {name}" for name in names if not any(squeezed(name) in text for text in texts))


def _in_hashes(found: Infotext) -> Iterator[str]:
    """The networks of `Hashes`, whose keys are `lora:name`, `LORA:name`, `embed:name`."""
    for key in _hashes(found):
        kind, _, name = key.partition(":")
        if name and kind.casefold() in _NETWORKS:
            yield name if kind.casefold() in LORAS | {"lyco"} else f"embedding {name}"


def _numbered(found: Infotext, tags: int) -> Iterator[str]:
    """Networks with Civitai's numbers. Titles are no names: as many tags as LoRAs are taken to be these."""
    numbered = [r for r in resources(found) if r.version is not None and r.kind in _NETWORKS]
    loras = [r for r in numbered if r.kind == "lora"]
    yield from (_untagged(r) for r in numbered if r.kind != "lora" or len(loras) > tags)


def _untagged(resource: Resource) -> str:
    return f"{resource.kind} {resource.name}"


def _stem(name: str) -> str:
    """A network's name, folded, without folders and ending."""
    return name.replace("\\", "/").rpartition("/")[2].removesuffix(".safetensors").casefold()
