"""What ComfyUI's graph adds to a model: networks, a VAE, and nodes that change the image in ways of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from atelier.request.infotext.changes import NODE
from atelier.request.infotext.graph import Graph, Node, Scalar, Wire, as_object, first, held, stem, upstream

_CHANGES = re.compile(
    "controlnet|ipadapter|t2iadapter|instantid|pulid|photomaker|faceid|gligen|unclip|stylemodel|instructpixtopix|"
    "conditioningset|conditioningaverage|regional|modelmerge|clipmerge|modelsamplingdiscrete|freeu|attentionguidance|"
    "perturbedattention|dynamicthresholding|rescalecfg|hypertile|tomepatch|adddownscale|deepshrink|hypernetwork|"
    "animatediff|layerdiffus|latentcomposite|latentblend|vaeencode|setlatentnoisemask"
)
"""What is in the kinds of nodes that change an image: letters and digits alone, folded."""
_FILES = (
    "image",
    "control_net_name",
    "ipadapter_file",
    "gligen_name",
    "style_model_name",
    "model_name",
    "hypernetwork_name",
)
_STACKED = re.compile(r"lora_?(?:name_?)?0*([1-9]\d?)(?:_name)?", re.IGNORECASE)
"""Inputs of nodes that add several networks; beside them stand their weights, under names of these kinds."""
_UNET = (
    *("model_weight_{}", "model_str_{}", "lora_{}_model_strength", "lora_wt_{}", "lora_{}_strength", "strength_{}"),
    "strength_0{}",
)
_TEXT = ("clip_weight_{}", "clip_str_{}", "lora_{}_clip_strength")
_ONE = ("lora_wt_{}", "lora_{}_strength")
_COUNTS = ("lora_count", "num_loras")
_NO_NAMES = frozenset({"", "None"})


def changing_nodes(graph: Graph, wires: tuple[Wire | None, ...]) -> dict[str, str]:
    """Nodes up these wires that change the image: their kinds, each with a file that it uses."""
    found: dict[str, str] = {}
    for at in (at for wire in wires for at in upstream(graph, wire)):
        node, key = graph[at], f"{NODE}{graph[at].kind}"
        if key not in found and _changes(node):
            files = (graph[up].inputs.get(name) for up in upstream(graph, Wire(at, 0)) for name in _FILES)
            found[key] = next((stem(name) for name in files if isinstance(name, str)), "on")
    return found


def _changes(node: Node) -> bool:
    """Whether a node changes the image: one of a kind that does, and no loader, into which nothing leads. Levels that
    are those of most models change nothing."""
    kind = re.sub(r"[\W_]", "", node.kind).casefold()
    if kind == "modelsamplingdiscrete" and node.inputs.get("sampling") == "eps" and not node.inputs.get("zsnr"):
        return False
    return _CHANGES.search(kind) is not None and any(node.wires())


def missing_nodes(graph: Graph, number: str, told: tuple[str, ...]) -> Iterator[str]:
    """Notes on wires, up from a node, that lead to nodes that are not there, but for those that were told already."""
    for at in upstream(graph, Wire(number, 0)):
        for name, wire in graph[at].wires():
            is_wire = isinstance(cast("list[object]", graph[at].inputs[name])[0], str)  # and no pair of numbers
            is_told = any(f"node {which} " in note for note in told for which in (wire.node, at))
            if is_wire and wire.node not in graph and not is_told:
                yield f"{name} of node {at} ({graph[at].kind}) comes from node {wire.node}, which is not there"


def parts_of_steps(node: Node) -> dict[str, str]:
    """That a sampler takes only some of its steps."""
    start, end, steps = (node.inputs.get(name) for name in ("start_at_step", "end_at_step", "steps"))
    begins_late = isinstance(start, int) and start > 0
    ends_early = isinstance(end, int) and isinstance(steps, int) and end < steps
    return {f"{NODE}{node.kind}": f"steps {start} to {end} alone"} if begins_late or ends_early else {}


def vae_of(graph: Graph, sampler: str) -> str | None:
    """The VAE of its own that decodes what a sampler made."""
    for node in graph.values():
        samples, vae = node.wire("samples", "latent"), node.wire("vae")
        if samples and vae and vae.node in graph and sampler in upstream(graph, samples):
            name = graph[vae.node].inputs.get("vae_name")
            return stem(name) if isinstance(name, str) else None
    return None


def networks_of(graph: Graph, node: Node) -> Iterator[str]:
    """Networks that a node adds, as A1111 would write them in a prompt."""
    if name := _name(graph, node, "lora_name"):
        unet = first(graph, (node,), ("strength_model", "lora_model_strength"))
        yield _tag(name, first(graph, (node,), ("strength_clip", "lora_clip_strength")), unet)
    yield from _stacked(graph, node)
    for entry in node.inputs.values():
        fields = as_object(entry)
        if fields.get("on") is True and isinstance(fields.get("lora"), str):  # rgthree's Power Lora Loader
            yield _tag(fields["lora"], fields.get("strengthTwo"), fields.get("strength", 1))
    listed = as_object(node.inputs.get("loras")).get("__value__", node.inputs.get("loras"))
    for entry in cast("list[object]", listed) if isinstance(listed, list) else []:  # the LoRA manager's
        fields = as_object(entry)
        if fields.get("active") is True and isinstance(fields.get("name"), str):
            yield _tag(fields["name"], fields.get("clipStrength"), fields.get("strength", 1))


def _stacked(graph: Graph, node: Node) -> Iterator[str]:
    """Networks of a node that adds several, numbered from 1; some say how many count, or that each has one weight."""
    numbered = [(found[1], key) for key in node.inputs if (found := _STACKED.fullmatch(key))]
    if not numbered or node.inputs.get("toggle") is False:
        return
    count = first(graph, (node,), _COUNTS)
    is_simple = "simple" in {held(graph, node.inputs.get(name)) for name in ("input_mode", "mode")}
    for number, key in numbered:
        name = _name(graph, node, key)
        is_off = held(graph, node.inputs.get(f"switch_{number}")) == "Off"
        if name is None or is_off or (isinstance(count, int) and int(number) > count):
            continue
        kinds = (_ONE, _ONE) if is_simple else (_TEXT, _UNET)
        text, unet = (first(graph, (node,), tuple(way.format(number) for way in ways)) for ways in kinds)
        yield _tag(name, text, unet)


def _name(graph: Graph, node: Node, key: str) -> str | None:
    """The name of a network; some nodes put it into an object with an image."""
    value = as_object(node.inputs.get(key)).get("content") or first(graph, (node,), (key,))
    return value if isinstance(value, str) and value not in _NO_NAMES else None


def _tag(name: object, text: object, unet: object) -> str:
    weights: list[Scalar] = [weight for weight in (text, unet) if isinstance(weight, str | int | float)]
    return f"<lora:{':'.join(str(part) for part in (stem(name), *dict.fromkeys(weights)))}>"
