"""Networks that transformers builds, in folders as it writes them.

transformers is optional (`pip install 'atelier[depth]'`). It is given tensors that our own reader read, of a local
folder, and runs no code from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from atelier.errors import BadFile, BadInput

if TYPE_CHECKING:
    from torch import Tensor

M = TypeVar("M")
PACKAGE, INSTALL = "transformers", "pip install 'atelier[depth]'"


@dataclass(frozen=True, slots=True)
class Opened:
    """kind: transformers' class of `net`; config: what it says of itself."""

    kind: str
    net: Any
    config: Any


def open_net(folder: Path, kinds: tuple[str, ...], purpose: str, left_out: str = "") -> Opened:
    """The network in a folder, in float32 and in evaluation. kinds: the classes of transformers that it may be of;
    purpose: begins the message where transformers is missing; left_out: in the names of tensors that files may hold and
    the network makes itself.

    Raises BadFile for one of another kind or without all its tensors, BadInput where transformers is not installed.
    """
    if find_spec(PACKAGE) is None:
        raise BadInput(f"{purpose} needs {PACKAGE}: {INSTALL}")
    kind = _kind(folder, kinds)
    library: Any = import_module(PACKAGE)

    def made() -> tuple[Any, Any, Any]:
        of_kind = getattr(library, kind)
        config = of_kind.config_class.from_pretrained(folder, local_files_only=True)
        tensors = _tensors(folder, left_out)
        net, told = of_kind.from_pretrained(
            None, config=config, state_dict=tensors, output_loading_info=True, dtype="float32"
        )
        return config, net, told

    config, net, told = usable(folder, made)
    _check(folder, told, left_out)
    return Opened(kind, net.eval(), config)


def usable(folder: Path, made: Callable[[], M]) -> M:
    """What transformers makes of a folder. Raises BadFile where it does not."""
    try:
        return made()
    except BadFile:
        raise
    except Exception as error:  # a library of many formats fails in many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadFile(folder, f"is no network that can be used ({reason}): get it again") from error


def _kind(folder: Path, kinds: tuple[str, ...]) -> str:
    path = folder / "config.json"
    try:
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, "cannot be read: get the folder again") from error
    named = cast("dict[str, object]", found).get("architectures") if isinstance(found, dict) else None
    there = cast("list[object]", named) if isinstance(named, list) else []
    for kind in kinds:
        if kind in there:
            return kind
    verb = "is" if len(kinds) == 1 else "are"
    raise BadFile(
        path, f"is of another network ({', '.join(map(str, there)) or 'none'}): {', '.join(kinds)} {verb} read"
    )


def _tensors(folder: Path, left_out: str) -> dict[str, Tensor]:
    """Raises BadFile."""
    from atelier.checkpoints.folder import TRANSFORMERS_STEM, archive_in

    archive = archive_in(folder, TRANSFORMERS_STEM)
    names = (name for name in archive.tensors if not (left_out and left_out in name))
    return archive.load(names, mapped=False)


def _check(folder: Path, told: Mapping[str, Iterable[object]], left_out: str) -> None:
    """Raises BadFile where tensors are missing or misshapen, which transformers would make up."""
    lacking = sorted(map(str, (*told["missing_keys"], *told["mismatched_keys"])))
    lacking = [name for name in lacking if not (left_out and left_out in name)]
    if lacking:
        raise BadFile(folder, f"lacks {len(lacking)} tensors ({', '.join(lacking[:3])}): get it again")
