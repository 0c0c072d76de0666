"""Reading an infotext of any dialect."""

from __future__ import annotations

import re
from collections.abc import Mapping

from atelier.request.infotext.comfy import read_graph
from atelier.request.infotext.fields import as_fields
from atelier.request.infotext.foreign import read_civitai, read_dream, read_fields
from atelier.request.infotext.graph import as_graph
from atelier.request.infotext.keys import NAMES
from atelier.request.infotext.pairs import Pair
from atelier.request.infotext.record import Infotext, Pairs
from atelier.request.infotext.sampler import is_schedule, is_titled
from atelier.request.infotext.text import Parts, split_text

_HASH = re.compile(r"[\w. +/\-()\[\]]+:\s*[0-9a-fA-F]{6,64}")

_COMFY_KEY = re.compile(r"Batch index|(?:Lora|Embedding)_\d+ (?:name|hash|Model name|Model hash)")
"""Keys of ComfyUI's node Save Image With MetaData."""


def read(text: str) -> Infotext:
    """The infotext that a text is: JSON or a command line of another program, or lines in A1111's form; a text without
    any of this is a prompt, JSON in which nothing is known is nothing. Never raises, linear time."""
    stripped = text.strip()
    if stripped.startswith("{") and (fields := as_fields(stripped)):
        return read_object(fields) or Infotext(source=fields)
    parts = split_text(text)
    return (None if parts.has_line else read_dream(stripped)) or _record(parts)


def read_object(fields: Mapping[str, object]) -> Infotext | None:
    """The infotext of a JSON object in a dialect that is known; None for others. What is sent to ComfyUI has the graph
    in its field `prompt`."""
    graph = as_graph(fields) or as_graph(as_fields(fields.get("prompt")))
    found = read_graph(graph) if graph else None
    if "extraMetadata" in fields and (site := read_civitai(as_fields(fields["extraMetadata"]), found)):
        return site
    return found or read_fields(fields)


def _record(parts: Parts) -> Infotext:
    pairs = tuple(_known(parts.pairs))
    return Infotext(parts.prompt, parts.negative_prompt, _renamed(pairs), _dialect(pairs, parts))


def _known(pairs: tuple[Pair, ...]) -> list[tuple[str, str]]:
    """The pairs with a value; a text without a key is one if it is itself a key, or is a list of hashes that has lost
    its key (Civitai's copy button drops it; several such lists are one)."""
    kept: list[tuple[str, str]] = []
    hashes: list[str] = []
    place = 0
    for pair in pairs:
        is_bare = pair.key == pair.value and not pair.was_quoted
        if not pair.key:
            if all(_HASH.fullmatch(part.strip()) for part in pair.value.split(",")):
                if not hashes:
                    place = len(kept)
                hashes.append(pair.value)
        elif pair.value and (not is_bare or pair.key in NAMES):
            kept.append((pair.key, pair.value))
    return [*kept[:place], ("Lora hashes", ", ".join(hashes)), *kept[place:]] if hashes else kept


def _renamed(pairs: Pairs) -> Pairs:
    """stable-diffusion.cpp calls distilled guidance Guidance. Draw Things calls the denoising strength Strength, and
    writes it for pictures from nothing too, as 1. Saver nodes of ComfyUI call the schedule Scheduler (SD.Next calls a
    class so)."""
    found = dict(pairs)
    if found.get("Version", "").startswith("stable-diffusion.cpp"):
        pairs = tuple(("Distilled CFG Scale" if k == "Guidance" else k, v) for k, v in pairs)
    if "Schedule type" not in found and is_schedule(found.get("Scheduler", "")):
        pairs = tuple(("Schedule type" if k == "Scheduler" else k, v) for k, v in pairs)
    if "Guidance Scale" not in found:
        return pairs
    kept = (("Denoising strength" if k == "Strength" else k, v) for k, v in pairs)
    return tuple((k, v) for k, v in kept if k != "Denoising strength" or v not in {"1", "1.0"})


def _dialect(pairs: Pairs, parts: Parts) -> str:
    """Whose text it is, as far as it shows."""
    found = dict(pairs)
    if not found:
        return "text"
    version = found.get("Version", "")
    for name, shows in (
        ("atelier", version.startswith("atelier")),
        ("fooocus", version.startswith("Fooocus")),
        ("stable-diffusion.cpp", version.startswith("stable-diffusion.cpp")),
        ("sdnext", found.get("App") == "SD.Next" or ("Parser" in found and "Operations" in found)),
        ("forge-neo", version.startswith("neo")),
        ("forge", re.match(r"f\d", version) is not None),
        ("comfyui", "ComfyUI" in version or (not version and any(map(_COMFY_KEY.fullmatch, found)))),
        ("civitai", "Civitai resources" in found or "Civitai metadata" in found),
        ("draw-things", "Guidance Scale" in found and "CFG scale" not in found),
        ("krita", is_titled(found.get("Sampler", ""))),
        ("civitai-copy", _is_copied(tuple(found), parts)),
        ("dynamic-prompts", "Template" in found),
    ):
        if shows:
            return name
    return "a1111"


def _is_copied(keys: tuple[str, ...], parts: Parts) -> bool:
    """Whether Civitai put the pairs in its own order, or dropped a key."""
    if "Created Date" in keys or any(not p.key and p.was_quoted for p in parts.pairs):
        return True
    order = [keys.index(k) for k in ("Sampler", "Size") if k in keys]
    return len(order) == 2 and order[0] > order[1]
