"""Weight adapters on a network: the only place that changes modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from atelier.adapters.delta import BIAS, WEIGHT, Delta, Layer
from atelier.adapters.hypernetwork import Pair
from atelier.adapters.layers import runner, spread
from atelier.nn.attention import Attention

M = TypeVar("M", bound=nn.Module)
How = Literal["merge", "hook", "fold"]


@dataclass(frozen=True, slots=True)
class Strong:
    """A delta and how strongly it acts."""

    delta: Delta
    strength: float


HYPERNETWORKS = "hypernetworks"
"""Under which name a network has those that act in it, so that they count in its memory."""
Changes = Mapping[str, Sequence[Strong]]
"""Parameter of a network, by our names -> what is added to it, one after the other."""


Look = Callable[[str, Tensor], None]
"""Is shown every changed parameter in float32, before it is brought to its precision."""


def _unseen(_: str, __: Tensor) -> None:
    return


def merged(tensors: Mapping[str, Tensor], changes: Changes, look: Look = _unseen) -> dict[str, Tensor]:
    """The changed tensors alone; none of `tensors` is written to.

    Computed in float32, kept in the dtype, the device and the layout in memory of what they replace. Raises KeyError
    for a parameter that is not among `tensors`.
    """
    with torch.no_grad():
        room = _room([tensors[name] for name in changes])
        return {name: _merged(name, tensors[name], own, room, look) for name, own in changes.items()}


def _room(tensors: Sequence[Tensor]) -> Tensor | None:
    """Where the largest one of a short precision has place in float32: asking for memory anew for each takes longer
    than what is computed in it."""
    short = [tensor for tensor in tensors if tensor.dtype != torch.float32]
    return torch.empty(max(t.numel() for t in short), device=short[0].device) if short else None


def _merged(name: str, tensor: Tensor, own: Sequence[Strong], room: Tensor | None, look: Look) -> Tensor:
    if tensor.dtype == torch.float32 or room is None:
        weight = tensor
        for change in own:
            weight = change.delta.fold(weight, change.strength)
    else:
        weight = room[: tensor.numel()].view(tensor.shape).copy_(tensor)
        for change in own:
            change.delta.fold(weight, change.strength, inside=True)
    look(name, weight)
    return weight if _alike(weight, tensor) else torch.empty_like(tensor).copy_(weight)


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.stride() == other.stride() and one is not other


def with_changes(net: M, changes: Changes, look: Look = _unseen) -> M:
    """A new network with the changed tensors, which shares all others with `net`; that stays as it is.

    Both can be used at the same time. It has no gradients, and is in evaluation mode.
    """
    tensors = net.state_dict()
    other = _twin(net, {})
    other.load_state_dict({**tensors, **merged(tensors, changes, look)}, strict=True, assign=True)
    return other.eval().requires_grad_(requires_grad=False)


def _twin(module: M, known: dict[int, nn.Module]) -> M:
    """A module of its own in place of each, with the same tensors and settings; known: those that have one already.

    What copy.deepcopy does for modules that share their tensors, without looking at all that they consist of.
    """
    if id(module) in known:
        return cast("M", known[id(module)])
    other = known[id(module)] = module.__class__.__new__(module.__class__)
    settings: dict[str, Any] = vars(module)
    for key, value in settings.items():
        vars(other)[key] = copy.copy(cast("Any", value)) if isinstance(value, dict | set) else value
    children = vars(other)["_modules"]
    children.update({name: _twin(child, known) for name, child in children.items() if child is not None})
    return other


Sources = Sequence[tuple[Mapping[int, Pair], float]]
"""Hypernetworks, by the width of what they change, and how strongly each acts."""


def with_sources(net: M, sources: Sources) -> M:
    """A new network whose attentions make their keys and values of what hypernetworks make of their source, one after
    the other: source + strength * net(source). It shares all tensors with `net`, which stays as it is."""
    other = _twin(net, {})
    device = next(net.parameters()).device
    chains = [chain for nets, _ in sources for pair in nets.values() for chain in (pair.key, pair.value)]
    other.add_module(HYPERNETWORKS, nn.ModuleList(chain.to(device) for chain in chains))
    for module in list(other.modules()):
        if isinstance(module, Attention):
            acting = [(nets[module.to_k.in_features], s) for nets, s in sources if module.to_k.in_features in nets]
            if acting:
                module.to_k.register_forward_pre_hook(_changing([(pair.key, strength) for pair, strength in acting]))
                module.to_v.register_forward_pre_hook(_changing([(pair.value, strength) for pair, strength in acting]))
    return other


def _changing(acting: Sequence[tuple[nn.Module, float]]) -> Callable[[nn.Module, tuple[Tensor, ...]], Tensor]:
    """What a layer reads in place of its input; computed in float32."""

    def changed(_: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
        source = args[0].float()
        for chain, strength in acting:
            source = source + strength * chain(source)
        return source.to(args[0].dtype)

    return changed


@contextmanager
def attached(net: nn.Module, changes: Changes, how: How) -> Generator[None]:
    """Inside, the network is the changed one; afterwards every bit is what it was, whatever happened.

    merge: its parameters are replaced, and it costs nothing more per call; hook: it computes what is added beside its
    own layers, in the precision of their output; fold: each layer computes with the changed parameters, which are made
    when it is called, and gradients reach what is added; nothing is kept but the changed parameter, and not even that
    where the layer is computed again for the backward pass. Whoever uses the network at the same time gets the changed
    one too.
    Raises KeyError for a parameter that the network does not have, TypeError for a layer that cannot be hooked.
    """
    with ExitStack() as undo:
        match how:
            case "merge":
                _replace(net, merged(net.state_dict(), changes), undo)
            case "fold":
                _fold(net, changes, undo)
            case "hook":
                _hook(net, changes, undo)
        yield


def _replace(net: nn.Module, tensors: Mapping[str, Tensor], undo: ExitStack) -> None:
    """Puts parameters in the places of others, which are kept and put back: nothing is written over."""
    for name, tensor in tensors.items():
        path, _, own = name.rpartition(".")
        module = net.get_submodule(path)
        before = module.get_parameter(own)
        undo.callback(setattr, module, own, before)
        setattr(module, own, nn.Parameter(tensor, requires_grad=before.requires_grad))


def _fold(net: nn.Module, changes: Changes, undo: ExitStack) -> None:
    """Lets layers compute with what the changes make of their parameters, also when they compute again for the backward
    pass."""
    for module, own in _by_module(net, changes):
        places = cast("dict[str, Tensor]", vars(module)["_parameters"])  # setattr takes nothing but leaves of the graph
        before = {parameter: places[parameter] for parameter in own}
        put = module.register_forward_pre_hook(partial(_put_folded, places, own))
        undo.callback(put.remove)
        back = module.register_forward_hook(partial(_put_back, places, before), always_call=True)
        undo.callback(back.remove)


def _put_folded(places: dict[str, Tensor], own: Mapping[str, Sequence[Strong]], *_: object) -> None:
    for parameter, changes in own.items():
        places[parameter] = _remade(places[parameter].detach(), changes)


def _put_back(places: dict[str, Tensor], before: Mapping[str, Tensor], *_: object) -> None:
    places.update(before)


def _remade(weight: Tensor, changes: Sequence[Strong]) -> Tensor:
    """The changed weight in the precision of what it was. What it is computed from is computed again when gradients are
    wanted: LoHa and DoRA would keep two or three tensors as large as the weight, of every layer."""

    def folded() -> Tensor:
        return _folded(weight, changes).to(weight.dtype)

    with torch.autocast(weight.device.type, enabled=False):
        if not torch.is_grad_enabled():
            return folded()
        again = cast("Callable[..., Tensor]", checkpoint.checkpoint)
        return again(folded, use_reentrant=False, preserve_rng_state=False)


def _by_module(net: nn.Module, changes: Changes) -> list[tuple[nn.Module, Mapping[str, Sequence[Strong]]]]:
    """The changes of each layer, by its own parameters."""
    found: dict[str, dict[str, Sequence[Strong]]] = {}
    for name, own in changes.items():
        net.get_parameter(name)
        path, _, parameter = name.rpartition(".")
        found.setdefault(path, {})[parameter] = own
    return [(net.get_submodule(path), own) for path, own in found.items()]


def _hook(net: nn.Module, changes: Changes, undo: ExitStack) -> None:
    for module, own in _by_module(net, changes):
        runner(module, {})
        handle = module.register_forward_hook(_adding(own), with_kwargs=True)
        undo.callback(handle.remove)


_Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Tensor], Tensor]


def _adding(own: Mapping[str, Sequence[Strong]]) -> _Hook:
    """Adds to the output of a layer what the changes of its parameters add.

    What a layer computes in bfloat16, its adapter does too, as PEFT and kohya's scripts do under autocast: bfloat16 has
    the range of float32, and what is added is rounded no more than what it is added to. All else is in float32.
    """

    def hook(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: Tensor) -> Tensor:
        dtype = torch.bfloat16 if output.dtype == torch.bfloat16 else torch.float32
        x, made = args[0], output.to(dtype)
        if changes := own.get(WEIGHT, ()):
            made = made + _of_weight(module, changes, x if x.dtype == torch.int64 else x.to(dtype), options)
        if changes := own.get(BIAS, ()):
            made = made + spread(_of_bias(module.get_parameter(BIAS), changes), output, module)
        return made.to(output.dtype)

    return hook


def _of_weight(module: nn.Module, changes: Sequence[Strong], x: Tensor, options: Mapping[str, object]) -> Tensor:
    plain, own = runner(module, options), module.get_parameter(WEIGHT)

    def run(x: Tensor, weight: Tensor) -> Tensor:
        return plain(x, weight.to(x.dtype) if x.is_floating_point() else weight)

    parts: list[Tensor] = []
    for number, change in enumerate(changes):
        layer = Layer(tuple(own.shape), partial(_folded, own, changes[:number]), run)
        made = change.delta.forward(x, layer)
        parts.append(made if change.strength == 1 else change.strength * made)
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def _folded(weight: Tensor, changes: Sequence[Strong]) -> Tensor:
    folded = weight.float()
    for change in changes:
        folded = change.delta.fold(folded, change.strength)
    return folded


def _of_bias(bias: Tensor, changes: Sequence[Strong]) -> Tensor:
    return _folded(bias, changes) - bias.float()
