"""Civitai: what its site writes beside a graph, its own pairs behind A1111's, and what its copy button makes."""

from __future__ import annotations

from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.dialects.comfyui import graph_of, read_graph
from atelier.request.infotext.fields import Fields, as_fields, pairs_of, size_of
from atelier.request.infotext.record import Infotext

_USED = frozenset({"prompt", "negativePrompt", "steps", "sampler", "cfgScale", "seed", "width", "height", "clipSkip"})


def detects(source: Source) -> bool:
    return "prompt" in as_fields(source.fields.get("extraMetadata"))


def read(source: Source) -> Infotext:
    """The graph beside it knows what is not said here."""
    found, graph = as_fields(source.fields.get("extraMetadata")), graph_of(source.fields)
    own = (*pairs_of(_known(found)), *pairs_of({key: value for key, value in found.items() if key not in _USED}))
    further = read_graph(graph).pairs if graph else ()
    more = [pair for pair in further if pair[0] in {"Size", "Model"} - dict(own).keys()]
    prompt, negative = (str(found.get(name) or "") for name in ("prompt", "negativePrompt"))
    return Infotext(prompt, negative, (*own, *more), "civitai", found)


def _known(found: Fields) -> dict[str, object]:
    return {
        "Steps": found.get("steps"),
        "Sampler": found.get("sampler"),
        "CFG scale": found.get("cfgScale"),
        "Seed": found.get("seed"),
        "Size": size_of(found),
        "Clip skip": found.get("clipSkip"),
    }


def detects_text(source: Source) -> bool:
    return bool({"Civitai resources", "Civitai metadata"} & source.values.keys())


def read_text(source: Source) -> Infotext:
    return source.lines.record("civitai")


def is_copied(source: Source) -> bool:
    """Whether the copy button put the pairs in its own order, or dropped a key."""
    keys = tuple(source.values)
    if "Created Date" in keys or any(not pair.key and pair.was_quoted for pair in source.lines.parts.pairs):
        return True
    order = [keys.index(key) for key in ("Sampler", "Size") if key in keys]
    return len(order) == 2 and order[0] > order[1]


def read_copied(source: Source) -> Infotext:
    return source.lines.record("civitai-copy")


SPECS = (
    Dialect("civitai", (Form(10, detects, read), Form(190, detects_text, read_text)), rng=rng("nv")),
    Dialect("civitai-copy", (Form(220, is_copied, read_copied),), rng=rng("nv"), is_a1111=True),
)
