"""ComfyUI's graph (the PNG chunk `prompt`): what its sampler was given, found by following the wires back.

A wire is [node, number of output]. Widgets that have become wires (a seed, a text, a number of steps) are followed to
the node that holds the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, cast

from atelier.request.infotext_record import Infotext

_MAX_HOPS = 50
_SEEDS = ("seed", "noise_seed")
_MODELS = ("ckpt_name", "unet_name", "model_name")
_LATENTS = ("latent_image", "latent", "optional_latent", "samples")
_PICTURES = ("image", "images", "pixels")
_TEXTS = ("text", "text_g", "prompt", "t5xxl", "clip_l")
_VALUES = ("value", "seed", "noise_seed", "string", "text", "int", "float", "number", "prompt")
"""What nodes that hold one value call it."""
_CONDITIONING = ("conditioning", "conditioning_1", "conditioning_to", "positive", "cond1")
_NO_TEXT = "ConditioningZeroOut"
_SIGMAS: Mapping[str, str] = MappingProxyType(
    {
        "KarrasScheduler": "Karras",
        "ExponentialScheduler": "Exponential",
        "PolyexponentialScheduler": "Polyexponential",
        "SDTurboScheduler": "Turbo",
        "AlignYourStepsScheduler": "Align Your Steps",
        "BetaSamplingScheduler": "beta",
    }
)
"""Nodes that make levels of one kind."""
_SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "SamplerEulerAncestral": "euler_ancestral",
        "SamplerLMS": "lms",
        "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde",
        "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde",
        "SamplerDPMPP_2S_Ancestral": "dpmpp_2s_ancestral",
        "SamplerDPMPP_SDE": "dpmpp_sde",
        "SamplerDPMAdaptative": "dpm_adaptive",
        "SamplerER_SDE": "er_sde",
        "SamplerSASolver": "sa_solver",
    }
)
"""Nodes that are one sampler."""


class Wire(NamedTuple):
    node: str
    output: int


@dataclass(frozen=True, slots=True)
class Node:
    kind: str
    inputs: Mapping[str, object]

    def wire(self, *names: str) -> Wire | None:
        """The first of these inputs that is a wire."""
        return next((wire for name in names if (wire := _wire(self.inputs.get(name)))), None)


Graph = Mapping[str, Node]


def as_graph(found: Mapping[str, object]) -> Graph | None:
    """The nodes by number, if a JSON object has any; else None. Civitai puts fields of its own beside them."""
    nodes: dict[str, Node] = {}
    for number, value in found.items():
        fields = _fields(value)
        inputs = fields.get("inputs")
        if isinstance(inputs, dict) and isinstance(fields.get("class_type"), str):
            nodes[number] = Node(str(fields["class_type"]), cast("dict[str, object]", inputs))
    return nodes or None


def read_graph(graph: Graph) -> Infotext:
    """The record of the sampler that comes first, of several such the first in the graph; without one, of the graph."""
    samplers = [number for number, node in graph.items() if _paints(node)]
    first = next((number for number in samplers if not _behind(graph, number, samplers)), None)
    source = {number: dict(node.inputs) for number, node in graph.items()}
    return Infotext(dialect="comfyui", source=source) if first is None else _sampler(graph, first, source)


def _paints(node: Node) -> bool:
    asked = node.wire("positive") is not None and ("steps" in node.inputs or "sigmas" in node.inputs)
    return asked or (node.wire("guider") is not None and node.wire("sigmas") is not None)


def _behind(graph: Graph, number: str, samplers: list[str]) -> bool:
    """Whether a sampler goes on from what another one made."""
    start = graph[number].wire(*_LATENTS, *_PICTURES)
    return any(at in samplers and at != number for at, _ in _upstream(graph, start))


def _sampler(graph: Graph, number: str, source: Mapping[str, object]) -> Infotext:
    node = graph[number]
    noise, guider, sigmas = (_follow(graph, node, name) for name in ("noise", "guider", "sigmas"))
    sampler = graph.get(wire.node) if (wire := node.wire("sampler")) else None
    seed = _first(graph, (node, noise), _SEEDS)
    denoise = _first(graph, (node, sigmas), ("denoise",))
    positive = _wired(graph, (node, guider), ("positive", "conditioning", "cond1"))
    negative = _wired(graph, (node, guider), ("negative",))
    model = _wired(graph, (node, guider, sigmas), ("model",))
    chain = [graph[at] for at, _ in _upstream(graph, model)]
    pairs = {
        "Steps": _first(graph, (node, sigmas), ("steps",)),
        "Sampler": _first(graph, (node, sampler), ("sampler_name",)) or (sampler and _SAMPLERS.get(sampler.kind)),
        "Schedule type": _first(graph, (node, sigmas), ("scheduler",)) or (sigmas and _SIGMAS.get(sigmas.kind)),
        "CFG scale": _first(graph, (node, guider), ("cfg",)) or (1 if guider else None),
        "Distilled CFG Scale": _along(graph, positive, ("guidance",)),
        "Seed": seed,
        "Size": _size(graph, node),
        "Model": next((_stem(value) for at in chain if (value := _first(graph, (at,), _MODELS))), None),
        "Clip skip": _clip_skip(_along(graph, positive, ("stop_at_clip_layer",))),
        "Denoising strength": None if denoise in {None, 1} else denoise,
        "LoRAs": ", ".join(tag for at in chain for tag in _loras(graph, at)) or None,
    }
    return Infotext(
        prompt=_text(graph, positive, "positive"),
        negative_prompt=_text(graph, negative, "negative"),
        pairs=tuple((key, str(value)) for key, value in pairs.items() if isinstance(value, str | int | float)),
        dialect="comfyui",
        source=source,
    )


def _follow(graph: Graph, node: Node, name: str) -> Node | None:
    wire = node.wire(name)
    return graph.get(wire.node) if wire else None


def _wired(graph: Graph, nodes: tuple[Node | None, ...], names: tuple[str, ...]) -> Wire | None:
    return next((wire for node in nodes if node and (wire := node.wire(*names)) and wire.node in graph), None)


def _first(graph: Graph, nodes: tuple[Node | None, ...], names: tuple[str, ...]) -> str | int | float | None:
    """The value of the first input of these names that has one."""
    for node in nodes:
        for name in names if node else ():
            value = _value(graph, node.inputs.get(name)) if node else None
            if value is not None:
                return value
    return None


def _value(graph: Graph, value: object) -> str | int | float | None:
    """A number or text, followed along wires to the node that holds it; None where it cannot be known."""
    for _ in range(_MAX_HOPS):
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return value
        wire = _wire(value)
        if wire is None or wire.node not in graph:
            return None
        inputs = graph[wire.node].inputs
        held = [inputs[name] for name in _VALUES if name in inputs]
        value = next(iter(held or inputs.values()), None) if held or len(inputs) == 1 else None
    return None


def _text(graph: Graph, wire: Wire | None, side: str) -> str:
    """What a conditioning says: `side` is the input of the sampler that it leads to."""
    for _ in range(_MAX_HOPS):
        if wire is None or wire.node not in graph or graph[wire.node].kind == _NO_TEXT:
            return ""
        node = graph[wire.node]
        own = node.inputs.get(side)
        found = own if isinstance(own, str) else _first(graph, (node,), _TEXTS)
        if isinstance(found, str):
            return found
        both = node.wire("positive") and node.wire("negative")
        side = ("positive", "negative")[wire.output] if both and wire.output < 2 else side
        wire = node.wire(side, *_CONDITIONING) or next((w for v in node.inputs.values() if (w := _wire(v))), None)
    return ""


def _along(graph: Graph, wire: Wire | None, names: tuple[str, ...]) -> str | int | float | None:
    """The nearest value of these names up a wire and beyond."""
    return next((v for at, _ in _upstream(graph, wire) if (v := _first(graph, (graph[at],), names)) is not None), None)


def _size(graph: Graph, node: Node) -> str | None:
    start = node.wire(*_LATENTS)
    width, height = (
        _along(graph, start, names) for names in (("width", "empty_latent_width"), ("height", "empty_latent_height"))
    )
    return f"{width}x{height}" if isinstance(width, int) and isinstance(height, int) else None


def _clip_skip(layer: object) -> int | None:
    """ComfyUI counts the layers from the end, -1 being the last."""
    return -layer if isinstance(layer, int) and layer < -1 else None


def _loras(graph: Graph, node: Node) -> Iterator[str]:
    """Networks that a node adds, as A1111 would write them in a prompt."""
    name = _first(graph, (node,), ("lora_name",))
    if isinstance(name, str) and name != "None":
        unet = _first(graph, (node,), ("strength_model", "lora_model_strength"))
        text = _first(graph, (node,), ("strength_clip", "lora_clip_strength"))
        weights = [weight for weight in (text if text is not None else unet, unet) if weight is not None]
        yield f"<lora:{':'.join(str(part) for part in (_stem(name), *dict.fromkeys(weights)))}>"
    for entry in node.inputs.values():
        fields = _fields(entry)
        if fields.get("on") is True and isinstance(fields.get("lora"), str):  # rgthree's Power Lora Loader
            yield f"<lora:{_stem(fields['lora'])}:{fields.get('strength', 1)}>"


def _upstream(graph: Graph, wire: Wire | None) -> Iterator[Wire]:
    """The nodes up a wire and beyond, the nearest first."""
    waiting, seen = [wire] if wire else [], set[str]()
    while waiting and len(seen) < _MAX_HOPS:
        at = waiting.pop(0)
        if at.node in seen or at.node not in graph:
            continue
        seen.add(at.node)
        yield at
        waiting += [further for value in graph[at.node].inputs.values() if (further := _wire(value))]


def _fields(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _wire(value: object) -> Wire | None:
    items = cast("list[object]", value) if isinstance(value, list) else []
    if len(items) != 2 or not isinstance(items[0], str | int) or not isinstance(items[1], int):
        return None
    return Wire(str(items[0]), items[1])


def _stem(value: object) -> str:
    name = str(value).replace("\\", "/").rpartition("/")[2]
    return name.removesuffix(".safetensors").removesuffix(".ckpt")
