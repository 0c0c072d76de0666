"""ComfyUI's graph (the PNG chunk `prompt`): what its sampler was given, found by following the wires back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from atelier.request.infotext_record import Infotext

Node = Mapping[str, object]
Graph = Mapping[str, Node]

_MAX_HOPS = 50
_SEEDS = frozenset({"seed", "noise_seed"})
_MODELS = ("ckpt_name", "unet_name", "model_name")


def as_graph(found: Mapping[str, object]) -> Graph | None:
    """The nodes by number, if that is what a JSON object is; None for others."""
    if not found or not all(isinstance(n, dict) and "class_type" in n and "inputs" in n for n in found.values()):
        return None
    return {number: _inputs_of(cast("dict[str, object]", node)) for number, node in found.items()}


def read_graph(graph: Graph) -> Infotext:
    """The record of the first sampler that knows its steps and its prompts; without one, of the graph alone."""
    for number, inputs in graph.items():
        if "steps" in inputs and _SEEDS & inputs.keys() and "positive" in inputs:
            return _sampler(graph, number)
    return Infotext(dialect="comfyui", source=dict(graph))


def _sampler(graph: Graph, number: str) -> Infotext:
    inputs = graph[number]
    seed = next((value for name, value in inputs.items() if name in _SEEDS), None)
    denoise = inputs.get("denoise")
    pairs = {
        "Steps": inputs.get("steps"),
        "Sampler": inputs.get("sampler_name"),
        "Schedule type": inputs.get("scheduler"),
        "CFG scale": inputs.get("cfg"),
        "Seed": seed,
        "Size": _size(graph, number),
        "Model": next((_stem(v) for v in _upstream(graph, number, "model", _MODELS)), None),
        "Denoising strength": None if denoise in {None, 1} else denoise,
    }
    return Infotext(
        prompt=_text(graph, number, "positive"),
        negative_prompt=_text(graph, number, "negative"),
        pairs=tuple((k, str(v)) for k, v in pairs.items() if isinstance(v, str | int | float)),
        dialect="comfyui",
        source=dict(graph),
    )


def _text(graph: Graph, number: str, wire: str) -> str:
    found = _upstream(graph, number, wire, ("text", "text_g", "prompt"))
    return next((text for text in found if isinstance(text, str)), "")


def _size(graph: Graph, number: str) -> str | None:
    width = next((v for v in _upstream(graph, number, "latent_image", ("width",)) if isinstance(v, int)), None)
    height = next((v for v in _upstream(graph, number, "latent_image", ("height",)) if isinstance(v, int)), None)
    return f"{width}x{height}" if width and height else None


def _upstream(graph: Graph, number: str, wire: str, names: tuple[str, ...]) -> Iterator[object]:
    """Values of inputs called one of `names`, from the nearest node up that wire and beyond."""
    waiting, seen = [_source(graph[number].get(wire))], set[str]()
    while waiting and len(seen) < _MAX_HOPS:
        at = waiting.pop(0)
        if at is None or at in seen or at not in graph:
            continue
        seen.add(at)
        yield from (graph[at][name] for name in names if name in graph[at] and _source(graph[at][name]) is None)
        waiting += [_source(value) for value in graph[at].values()]


def _source(value: object) -> str | None:
    """The node that a wire comes from: an input that is [node, number of output]."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    return str(items[0]) if len(items) == 2 and isinstance(items[1], int) else None


def _inputs_of(node: Mapping[str, object]) -> Node:
    inputs = node["inputs"]
    return cast("dict[str, object]", inputs) if isinstance(inputs, dict) else {}


def _stem(value: object) -> object:
    if not isinstance(value, str):
        return None
    name = value.replace("\\", "/").rpartition("/")[2]
    return name.removesuffix(".safetensors").removesuffix(".ckpt")
