"""The graph of ComfyUI as data: nodes, the wires between them, and the values that wires lead to.

A wire is [node, number of output].
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

MAX_HOPS = 50
_VALUES = ("value", "seed", "noise_seed", "string", "text", "int", "float", "number", "prompt", "Value", "Number")
"""What nodes that hold one value call it."""

Scalar = str | int | float


class Wire(NamedTuple):
    node: str
    output: int


@dataclass(frozen=True, slots=True)
class Node:
    kind: str
    inputs: Mapping[str, object]

    def wire(self, *names: str) -> Wire | None:
        """The first of these inputs that is a wire."""
        return next((wire for name in names if (wire := as_wire(self.inputs.get(name)))), None)

    def wires(self) -> Iterator[tuple[str, Wire]]:
        """Every input that is a wire, with its name."""
        return ((name, wire) for name, value in self.inputs.items() if (wire := as_wire(value)))


Graph = Mapping[str, Node]


def as_graph(found: Mapping[str, object]) -> Graph | None:
    """The nodes by number, if a JSON object has any; else None. Civitai puts fields of its own beside them."""
    nodes: dict[str, Node] = {}
    for number, value in found.items():
        fields = as_object(value)
        inputs = fields.get("inputs")
        if isinstance(inputs, dict) and isinstance(fields.get("class_type"), str):
            nodes[number] = Node(str(fields["class_type"]), cast("dict[str, object]", inputs))
    return nodes or None


def as_object(value: object) -> Mapping[str, object]:
    """A JSON object; {} for anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def stem(value: object) -> str:
    """The name of a file without its folders and the ending of a checkpoint."""
    name = str(value).replace("\\", "/").rpartition("/")[2]
    return name.removesuffix(".safetensors").removesuffix(".ckpt")


def as_wire(value: object) -> Wire | None:
    """The wire that a list of two is; None for anything else."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    if len(items) != 2 or not isinstance(items[0], str | int) or not isinstance(items[1], int):
        return None
    return Wire(str(items[0]), items[1])


def held(graph: Graph, value: object, names: tuple[str, ...] = ()) -> Scalar | None:
    """A number or text, followed along wires to the node that holds it under one of `names` or a common name; None
    where it cannot be known."""
    for _ in range(MAX_HOPS):
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return value
        wire = as_wire(value)
        if wire is None or wire.node not in graph:
            return None
        inputs = graph[wire.node].inputs
        name = next((name for name in (*names, *_VALUES) if name in inputs), None)
        value = inputs[name] if name else next(iter(inputs.values())) if len(inputs) == 1 else None
    return None


def first(
    graph: Graph, nodes: tuple[Node | None, ...], names: tuple[str, ...], also: tuple[str, ...] = ()
) -> Scalar | None:
    """The value of the first input of these names that has one. also: what nodes up its wires call it too."""
    for node in nodes:
        for name in names if node else ():
            value = held(graph, node.inputs.get(name), (*names, *also)) if node else None
            if value is not None:
                return value
    return None


def along(graph: Graph, wire: Wire | None, names: tuple[str, ...]) -> Scalar | None:
    """The nearest value of these names up a wire and beyond."""
    return next((v for at in upstream(graph, wire) if (v := first(graph, (graph[at],), names)) is not None), None)


def upstream(graph: Graph, wire: Wire | None) -> Iterator[str]:
    """The nodes up a wire and beyond, the nearest first."""
    waiting, seen = deque([wire.node] if wire else []), set[str]()
    while waiting and len(seen) < MAX_HOPS:
        at = waiting.popleft()
        if at in seen or at not in graph:
            continue
        seen.add(at)
        yield at
        waiting.extend(further.node for _, further in graph[at].wires())
