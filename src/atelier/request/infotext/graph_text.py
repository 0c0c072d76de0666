"""What a conditioning of ComfyUI's graph says: texts found up its wires, put together as the nodes between do it.

Nodes that join, replace or choose texts are known by the names of their inputs. Conditionings that are combined are
sides of AND with equal weights, since ComfyUI takes their mean; those that are concatenated are divided by BREAK.
"""

from __future__ import annotations

import re

from atelier.request.infotext.graph import MAX_HOPS, Graph, Node, Wire, as_wire, held

_MAX_VISITS = 200
_TEXTS = ("populated_text", "text", "text_g", "prompt", "t5xxl", "clip_l", "string", "value", "wildcard_text")
"""What nodes that hold a text call it, the most telling first."""
_OTHER_TEXTS = ("positive", "negative", "Text", "String", "Prompt")
_CONDITIONING = ("conditioning", "conditioning_1", "conditioning_to", "positive", "cond1")
_NO_TEXT = "ConditioningZeroOut"
_SIDE = re.compile(r"conditioning_?(?:\d{1,2}|to|from)")
"""What nodes call the conditionings that they put together."""
_NOT_TEXTS = frozenset({"clip", "model", "vae", "image", "images", "pixels", "mask", "latent_image", "control_net"})
_PIECE = re.compile(r"(?:text|string|str|prompt|input|any)_?(?:[a-f]|\d{1,2})", re.IGNORECASE)
"""What nodes call the texts that they join or choose from."""
_JOINS = re.compile(r"concat|append|join|combine", re.IGNORECASE)
_DELIMITERS = ("delimiter", "separator")
_CHOICES = ("select", "Input", "index", "input")
_YES = ("yes", "true", "True", True)


def prompt_of(graph: Graph, wire: Wire | None, side: str) -> tuple[str, tuple[str, ...]]:
    """(what a conditioning says, notes on what could not be read). side: `positive` or `negative`, the input of the
    sampler that it leads to."""
    reader = _Reader(graph, side)
    text = reader.wired(wire, side) if wire else ""
    return text, tuple(f"{side} prompt: {name} cannot be read" for name in dict.fromkeys(reader.unread))


class _Reader:
    """unread: nodes without a text that could be read. visits: how many nodes may still be looked at, hops: how many
    wires lead here, so that graphs in circles, and those that double a text over and over, come to an end."""

    def __init__(self, graph: Graph, wanted: str) -> None:
        self.graph = graph
        self.wanted = wanted
        self.visits = _MAX_VISITS
        self.hops = 0
        self.unread: list[str] = []

    def wired(self, wire: Wire, side: str) -> str:
        """What the node says that a wire comes from."""
        node = self.graph.get(wire.node)
        if node is None or self.visits <= 0 or self.hops >= MAX_HOPS:
            return self._lost(wire)
        self.visits -= 1
        self.hops += 1
        text = self._text(wire, node, side)
        self.hops -= 1
        return text

    def _text(self, wire: Wire, node: Node, side: str) -> str:
        own = "" if node.kind == _NO_TEXT else node.inputs.get(side)
        if isinstance(own, str):
            return own
        found = self._put_together(node, side)
        if found is None:
            found = self._joined(wire, node, side)
        if found is None:
            found = self._held(node, side)
        if found is not None:
            return found
        further = _further(node, wire.output, side)
        return self.wired(*further) if further else self._lost(wire)

    def _lost(self, wire: Wire) -> str:
        node = self.graph.get(wire.node)
        self.unread.append(f"node {wire.node}" + (f" ({node.kind})" if node else ""))
        return ""

    def _text_of(self, value: object, side: str) -> str | None:
        """The text that the value of an input is; None if it is neither a text nor a wire."""
        wire = as_wire(value)
        return self.wired(wire, side) if wire else value if isinstance(value, str) else None

    def _held(self, node: Node, side: str) -> str | None:
        """The first text of a node that is not empty; None if it has none."""
        texts = (self._text_of(node.inputs.get(name), side) for name in _TEXTS)
        text_found = next((text for text in texts if text), None)
        if text_found is None and any(
            as_wire(node.inputs.get(n)) or isinstance(node.inputs.get(n), str) for n in _TEXTS
        ):
            return ""
        return text_found if text_found is not None else _other_text(node)

    def _put_together(self, node: Node, side: str) -> str | None:
        """What a node makes of several conditionings; None if it has not several, or mixes them otherwise."""
        if not re.search(r"combine|concat", node.kind, re.IGNORECASE):
            return None
        wires = [wire for name, wire in node.wires() if _SIDE.fullmatch(name)]
        if len(wires) < 2:
            return None
        is_combined = "Concat" not in node.kind and node.inputs.get("operation") != "concat"
        if is_combined and self.wanted == "positive":
            return _conjunction(self._sides(node, side))
        return " BREAK ".join(text for wire in wires if (text := self.wired(wire, side)))

    def _sides(self, node: Node, side: str) -> list[str]:
        """The texts of conditionings that are combined, those that are combinations themselves taken apart."""
        texts: list[str] = []
        for wire in (wire for name, wire in node.wires() if _SIDE.fullmatch(name)):
            further = self.graph.get(wire.node)
            if further and further.kind == node.kind and self.visits > 0 and self.hops < MAX_HOPS:
                self.visits -= 1
                self.hops += 1
                texts += self._sides(further, side)
                self.hops -= 1
            else:
                texts.append(self.wired(wire, side))
        return [text for text in texts if text]

    def _joined(self, wire: Wire, node: Node, side: str) -> str | None:
        """What a node makes of several texts; None if it has none."""
        names = [name for name in node.inputs if _PIECE.fullmatch(name)]
        delimiter = _delimiter(node)
        if not names or (len(names) < 2 and delimiter is None):
            return None
        if delimiter is not None and node.inputs.get("action") != "replace":
            texts = [text for name in names if (text := self._text_of(node.inputs[name], side))]
            return _tidied(node, delimiter.join(texts))
        if chosen := _chosen(self.graph, node, names):
            return self._text_of(node.inputs[chosen], side)
        if any(name in node.inputs for name in _TEXTS):
            return None
        self._lost(wire)
        return self._text_of(node.inputs[names[0]], side)


def _further(node: Node, output: int, side: str) -> tuple[Wire, str] | None:
    """The wire on which a node without texts passes a conditioning on, and its side there."""
    if node.wire("positive") and node.wire("negative") and output < 2:
        side = ("positive", "negative")[output]
    wire = node.wire(side, *_CONDITIONING) or next((w for name, w in node.wires() if name not in _NOT_TEXTS), None)
    return (wire, side) if wire else None


def _other_text(node: Node) -> str | None:
    """A text under a name that is less plain, or the only value of a node, unless that names a file."""
    named = (node.inputs.get(name) for name in _OTHER_TEXTS if not node.wire("positive", "negative"))
    if text := next((value for value in named if isinstance(value, str)), None):
        return text
    name, value = next(iter(node.inputs.items()), ("", None))
    is_only = len(node.inputs) == 1 and not re.search(r"file|path|name", name, re.IGNORECASE)
    return value if is_only and isinstance(value, str) else None


def _conjunction(texts: list[str]) -> str:
    """Prompts that act together with weights that sum up to 1."""
    if len(texts) < 2:
        return "".join(texts)
    return " AND ".join(f"{text} :{1 / len(texts):.4g}" for text in texts)


def _delimiter(node: Node) -> str | None:
    """What stands between the texts that a node joins; None if it joins none."""
    text_found = next((value for name in _DELIMITERS if isinstance(value := node.inputs.get(name), str)), None)
    if text_found is not None:
        return text_found.replace("\\n", "\n")
    if "action" in node.inputs:
        return ", " if node.inputs.get("tidy_tags") in _YES else ""
    return "" if _JOINS.search(node.kind) else None


def _tidied(node: Node, text: str) -> str:
    """Space and commas as a node that tidies tags leaves them."""
    if node.inputs.get("tidy_tags") not in _YES:
        return text
    return re.sub(r",{2,}", ",", " ".join(text.split()).replace(" ,", ","))


def _chosen(graph: Graph, node: Node, names: list[str]) -> str | None:
    """The input that a switch takes: the one with the number that it is given, or the first there is."""
    if all(name.startswith("any") for name in names):
        return names[0]
    number = next((n for name in _CHOICES if isinstance(n := held(graph, node.inputs.get(name)), int)), None)
    return next((name for name in names if re.findall(r"\d+", name) == [str(number)]), None)
