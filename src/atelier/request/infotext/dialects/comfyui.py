"""ComfyUI: its graph (the PNG chunk `prompt`), and texts of its saver nodes in A1111's form.

Of the graph: what its sampler was given, found by following the wires back.

Widgets that have become wires (a seed, a text, a number of steps) are followed to the node that holds the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from itertools import islice
from types import MappingProxyType

from atelier.request.infotext.changes import NODE
from atelier.request.infotext.dialect import Dialect, Form, Source, rng
from atelier.request.infotext.fields import Fields, as_fields
from atelier.request.infotext.graph import Graph, Node, Scalar, Wire, along, as_graph, first, stem, upstream
from atelier.request.infotext.graph_adds import changing_nodes, missing_nodes, networks_of, parts_of_steps, vae_of
from atelier.request.infotext.graph_text import prompt_of
from atelier.request.infotext.keys import Settings
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.sampler import comfy_method

_SEEDS = ("seed", "noise_seed")
_MODELS = ("ckpt_name", "unet_name", "model_name")
_LATENTS = ("latent_image", "latent", "optional_latent", "samples")
_IMAGES = ("image", "images", "pixels")
_LAYERS = ("stop_at_clip_layer", "clip_skip")
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
_MOST = 200
"""Samplers of a graph that are looked at."""
_SAVER_KEY = re.compile(r"Batch index|(?:Lora|Embedding)_\d+ (?:name|hash|Model name|Model hash)")
"""Keys of the node Save Image With MetaData."""


def detects(source: Source) -> bool:
    return graph_of(source.fields) is not None


def read(source: Source) -> Infotext:
    return read_graph(graph_of(source.fields) or {})


def detects_text(source: Source) -> bool:
    return "ComfyUI" in source.version or (not source.version and any(map(_SAVER_KEY.fullmatch, source.values)))


def read_text(source: Source) -> Infotext:
    return source.lines.record("comfyui")


def graph_of(fields: Fields) -> Graph | None:
    """The graph that a JSON object is, or has in its field `prompt`, as what is sent to ComfyUI has; else None."""
    return as_graph(fields) or as_graph(as_fields(fields.get("prompt")))


def read_graph(graph: Graph) -> Infotext:
    """The record of the sampler that comes first, of several such the first in the graph; without one, of the graph."""
    samplers = list(islice((number for number, node in graph.items() if _generates(node)), _MOST))
    known = frozenset(samplers)
    first = next((number for number in samplers if not _behind(graph, number, known)), None)
    source = {number: dict(node.inputs) for number, node in graph.items()}
    if first is None:
        return Infotext(dialect="comfyui", source=source)
    later = [graph[number] for number in samplers if _behind(graph, number, {first})]
    return _sampler(graph, first, later, source)


def _generates(node: Node) -> bool:
    has_settings = node.wire("positive") is not None and ("steps" in node.inputs or "sigmas" in node.inputs)
    return has_settings or (node.wire("guider") is not None and node.wire("sigmas") is not None)


def _behind(graph: Graph, number: str, samplers: AbstractSet[str]) -> bool:
    """Whether a sampler goes on from what another one made."""
    start = graph[number].wire(*_LATENTS, *_IMAGES)
    return any(at in samplers and at != number for at in upstream(graph, start))


def _sampler(graph: Graph, number: str, later: list[Node], source: Mapping[str, object]) -> Infotext:
    node = graph[number]
    noise, guider, sigmas = (_follow(graph, node, name) for name in ("noise", "guider", "sigmas"))
    sampler = graph.get(wire.node) if (wire := node.wire("sampler")) else None
    seed = first(graph, (node, noise), _SEEDS)
    denoise = first(graph, (node, sigmas), ("denoise",))
    positive = _wired(graph, (node, guider), ("positive", "conditioning", "cond1"))
    negative = _wired(graph, (node, guider), ("negative",))
    model = _wired(graph, (node, guider, sigmas), ("model",))
    chain = [graph[at] for at in upstream(graph, model)]
    prompt, unread = prompt_of(graph, positive, "positive")
    negative_prompt, unread_negative = prompt_of(graph, negative, "negative")
    pairs = {
        "Steps": first(graph, (node, sigmas), ("steps",)),
        "Sampler": _method(graph, (node, sampler), "sampler") or (sampler and _SAMPLERS.get(sampler.kind)),
        "Schedule type": _method(graph, (node, sigmas), "scheduler") or (sigmas and _SIGMAS.get(sigmas.kind)),
        "CFG scale": first(graph, (node, guider), ("cfg",)) or (1 if guider else None),
        "Distilled CFG Scale": along(graph, positive, ("guidance",)),
        "Seed": seed,
        "Size": _size(graph, node),
        "Model": _model(graph, chain),
        "VAE": vae_of(graph, number),
        "Clip skip": _clip_skip(along(graph, positive, _LAYERS)),
        "Denoising strength": None if denoise in {None, 1} else denoise,
        "LoRAs": ", ".join(tag for at in chain for tag in networks_of(graph, at)) or None,
        **changing_nodes(graph, (model, positive, negative, node.wire(*_LATENTS))),
        **parts_of_steps(node),
        **{f"{NODE}{further.kind}": "a further pass" for further in later},
    }
    return Infotext(
        prompt=prompt,
        negative_prompt=negative_prompt,
        pairs=tuple((key, str(value)) for key, value in pairs.items() if isinstance(value, str | int | float)),
        dialect="comfyui",
        source=source,
        warnings=(*unread, *unread_negative, *missing_nodes(graph, number, (*unread, *unread_negative))),
    )


def _follow(graph: Graph, node: Node, name: str) -> Node | None:
    wire = node.wire(name)
    return graph.get(wire.node) if wire else None


def _wired(graph: Graph, nodes: tuple[Node | None, ...], names: tuple[str, ...]) -> Wire | None:
    return next((wire for node in nodes if node and (wire := node.wire(*names)) and wire.node in graph), None)


def _method(graph: Graph, nodes: tuple[Node | None, ...], what: str) -> Scalar | None:
    """The name of a sampler or scheduler, which nodes call by either of two names."""
    name = "sampler_name" if what == "sampler" else "scheduler"
    return first(graph, nodes, (name,), (what, f"{what}_name"))


def _model(graph: Graph, chain: list[Node]) -> str | None:
    """The checkpoint: what a node up the wire of the model loads; one through which the wire passes loads another kind
    of model."""
    loaders = (at for at in chain if not at.wire("model"))
    return next((stem(value) for at in loaders if (value := first(graph, (at,), _MODELS))), None)


def _size(graph: Graph, node: Node) -> str | None:
    start = node.wire(*_LATENTS)
    width, height = (
        along(graph, start, names) for names in (("width", "empty_latent_width"), ("height", "empty_latent_height"))
    )
    return f"{width}x{height}" if isinstance(width, int) and isinstance(height, int) else None


def _clip_skip(layer: object) -> int | None:
    """ComfyUI counts the layers from the end, -1 being the last; some loaders count as A1111 does."""
    return abs(layer) if isinstance(layer, int) and abs(layer) > 1 else None


def settle(settings: Settings) -> Settings:
    """ComfyUI weighs words its own way, begins at noise * sqrt(1 + sigma^2), and leaves out a sigma for UniPC but none
    for DPM++ 3M SDE. Some of its names mean other things."""
    name = re.sub(r"[\W_]", "", settings.sampler or "").casefold()
    discards = True if name.startswith("unipc") else False if name.startswith("dpmpp3msde") else None
    sampler, scheduler = comfy_method(settings.sampler, settings.scheduler)
    return replace(
        settings,
        sampler=sampler,
        scheduler=scheduler,
        emphasis=settings.emphasis or "Comfy",
        sgm_noise_multiplier=True,
        discard_penultimate_sigma=settings.discard_penultimate_sigma if discards is None else discards,
    )


SPECS = (
    Dialect(
        "comfyui",
        (Form(20, detects, read), Form(180, detects_text, read_text)),
        rng=rng("cpu"),
        settle=settle,
        keeps_ends=True,
    ),
)
