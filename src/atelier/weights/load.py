"""From stored tensors to modules: strict, and every complaint names its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from atelier.errors import BadFile
from atelier.weights.archive import WAY_OUT, Stored, counted
from atelier.weights.names.name import Identity, Layout, Name, Pointwise

M = TypeVar("M", bound=nn.Module)

INITIALIZERS = frozenset({nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_})
"""What torch's own layers fill their weights with."""


QUANTISED = "quantised weights cannot be read: get them in fp16, bf16 or fp32"


def read(
    stored: Stored,
    names: Iterable[Name],
    *,
    dtype: torch.dtype | None = None,
    mapped: bool = True,
    channels_last: bool = False,
) -> dict[str, Tensor]:
    """The tensors of one network under our names, rearranged as the names say, floating ones as `dtype`.

    `mapped` and `channels_last` are those of `safetensors.load`. Raises BadFile when a tensor is missing or left over.
    """
    listed = list(names)
    found = match(stored, listed)
    spellings = (stored.prefix + spelling for spelling in found.values())
    tensors = stored.archive.load(spellings, dtype=dtype, mapped=mapped, channels_last=channels_last)
    layout = stored.layout
    arranged = {n.ours: arrange(tensors[stored.prefix + spelling], n, layout) for n, spelling in found.items()}
    return arranged | {n.ours: _identity(n, next(iter(tensors.values()))) for n in listed if n.is_absent(layout)}


def _identity(name: Name, like: Tensor) -> Tensor:
    """What the layout leaves out, as the other tensors of its network are."""
    assert isinstance(name.rule, Identity)
    return torch.eye(name.rule.size, dtype=like.dtype, device=like.device)


def match(stored: Stored, names: Iterable[Name]) -> dict[Name, str]:
    """Each name's spelling in the file, without the prefix. Reads nothing. Raises BadFile as `read` does."""
    shapes, layout = stored.shapes(), stored.layout
    found: dict[Name, str] = {}
    missing: list[str] = []
    for name in names:
        if name.is_absent(layout):
            continue
        spelling = next((s for s in name.spellings(layout) if s in shapes), None)
        if spelling is None:
            missing.append(stored.prefix + name.stored(layout))
        else:
            found[name] = spelling
    surplus = shapes.keys() - found.values()
    path = stored.archive.path
    if missing:
        raise BadFile(path, f"lacks {counted(missing)}; {WAY_OUT}")
    if surplus:
        raise BadFile(path, f"has {counted([stored.prefix + s for s in surplus])} that no module takes; {WAY_OUT}")
    _check_rows(stored, found, shapes)
    return found


def _check_rows(stored: Stored, found: Mapping[Name, str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, spelling in found.items():
        rows, shape = name.rows(stored.layout), shapes[spelling]
        if rows is not None and shape[:1] != (rows.total,):
            problem = f"has {stored.prefix}{spelling} of the shape {list(shape)} where {rows.total} rows are needed"
            raise BadFile(stored.archive.path, f"{problem}; {WAY_OUT}")


def arrange(tensor: Tensor, name: Name, layout: Layout) -> Tensor:
    """A tensor that `layout` keeps, in the shape our module keeps."""
    rows = name.rows(layout)
    if rows is not None:
        return tensor.narrow(0, rows.start, rows.count)
    if name.is_transposed(layout):
        return tensor.t().contiguous() if tensor.ndim == 2 else tensor
    if name.is_swapped(layout):
        return swapped(tensor)
    return _pointwise(tensor, name.rule.ours) if isinstance(name.rule, Pointwise) else tensor


def arrange_for(tensor: Tensor, name: Name, layout: Layout) -> Tensor:
    """One of our tensors in the shape that `layout` keeps; of a tensor that it keeps in one piece, our rows."""
    if name.is_transposed(layout):
        return tensor.t().contiguous()
    if name.is_swapped(layout):
        return swapped(tensor)
    return _pointwise(tensor, name.rule.dimensions(layout)) if isinstance(name.rule, Pointwise) else tensor


def swapped(tensor: Tensor) -> Tensor:
    """The second half of the rows first; its own inverse."""
    return torch.cat(tensor.chunk(2)[::-1])


def _pointwise(tensor: Tensor, dimensions: int) -> Tensor:
    if tensor.ndim == 4 and dimensions == 2 and tensor.shape[2:] == (1, 1):
        return tensor[:, :, 0, 0]
    if tensor.ndim == 2 and dimensions == 4:
        return tensor[:, :, None, None]
    return tensor


def load_into(
    build: Callable[[], M],
    tensors: Mapping[str, Tensor],
    *,
    dtype: torch.dtype | None = None,
    source: object = "weights",
) -> M:
    """Builds a module without memory and gives it `tensors`, by our names, floating ones as `dtype`.

    Returned in evaluation mode and without gradients. Nothing is copied unless it is cast: the parameters are the
    tensors. Raises BadFile about `source` for missing, surplus and misshapen tensors.
    """
    with torch.device("meta"), _NoInitialization():
        module = build()
    own = module.state_dict(keep_vars=True)  # detached copies of thousands take a while
    _agree(source, {name: t.shape for name, t in own.items()}, {name: t.shape for name, t in tensors.items()})
    _agree_in_kind(source, own, tensors)
    given = {n: t.to(dtype) if dtype is not None and t.is_floating_point() else t for n, t in tensors.items()}
    module.load_state_dict(given, strict=True, assign=True)
    forgotten = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    if forgotten:
        raise TypeError(f"{type(module).__name__} keeps {counted(forgotten)} outside its state")
    return module.eval().requires_grad_(requires_grad=False)


class _NoInitialization(TorchFunctionMode):
    """Leaves out the INITIALIZERS: there is nothing to fill, and on the meta device normal_ loads torch's compiler."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        _types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever torch's function returns
        named = dict(kwargs or {})
        if func in INITIALIZERS:
            return args[0] if args else named["tensor"]
        return func(*args, **named)


def _agree(source: object, expected: Mapping[str, torch.Size], given: Mapping[str, torch.Size]) -> None:
    missing, surplus = expected.keys() - given.keys(), given.keys() - expected.keys()
    if missing:
        raise BadFile(source, f"lacks {counted(missing)}; {WAY_OUT}")
    if surplus:
        raise BadFile(source, f"has {counted(surplus)} that no module takes; {WAY_OUT}")
    wrong = [name for name in expected if expected[name] != given[name]]
    if wrong:
        name = wrong[0]
        shapes = f"{name} is {_shape(given[name])} where {_shape(expected[name])} is needed"
        raise BadFile(source, f"has {counted(wrong)} of the wrong shape: {shapes}; {WAY_OUT}")


def _agree_in_kind(source: object, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    wrong = [name for name in own if own[name].is_floating_point() != given[name].is_floating_point()]
    if wrong:
        kinds = f"{wrong[0]} is {str(given[wrong[0]].dtype).removeprefix('torch.')}"
        raise BadFile(source, f"has {counted(wrong)} that are not floating numbers ({kinds}); {QUANTISED}")


def _shape(shape: torch.Size) -> str:
    return "x".join(str(extent) for extent in shape) or "scalar"
