"""Finding what a folder of modules offers: each module exports SPECS, `discover` collects them by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import MappingProxyType, ModuleType
from typing import Protocol, TypeVar, cast

from atelier.errors import UnknownName


class Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def aliases(self) -> tuple[str, ...]: ...


S = TypeVar("S", bound=Named)


def folded(name: str) -> str:
    """What spellings of a name have in common: neither case nor which of space, hyphen and underscore divides it."""
    return " ".join(name.casefold().replace("-", " ").replace("_", " ").split())


def discover(package: ModuleType, kind: type[S]) -> Mapping[str, S]:
    """Imports every module of `package` and returns name -> spec for all objects in their SPECS, in module order.

    Raises ValueError on a duplicate name or alias (a programming error, found by the contract tests).
    """
    found: dict[str, S] = {}
    taken: set[str] = set()
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for spec in cast("Iterable[object]", getattr(module, "SPECS", ())):
            if not isinstance(spec, kind):
                raise TypeError(f"{module.__name__}.SPECS holds {spec!r}, which is no {kind.__name__}")
            names = {folded(n) for n in (spec.name, *spec.aliases)}
            if names & taken:
                raise ValueError(f"{module.__name__}: duplicate {kind.__name__} name {min(names & taken)!r}")
            taken |= names
            found[spec.name] = spec
    return MappingProxyType(found)


def resolve(registry: Mapping[str, S], kind: str, name: str) -> S:
    """The spec whose name or alias is `name`, as `folded` compares. Raises UnknownName with the nearest names."""
    for spec in registry.values():
        if folded(name) in map(folded, (spec.name, *spec.aliases)):
            return spec
    raise UnknownName(kind, name, registry)
