"""The kinds of training there are. Read without torch, which is imported when a task is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, cast

import atelier.train.recipes as recipe_modules
from atelier.errors import BadFile
from atelier.registry import discover
from atelier.train.recipe import R, checked, parsed

if TYPE_CHECKING:
    from atelier.request.events import TrainingEvent
    from atelier.train.loop import Placement, Task


@dataclass(frozen=True, slots=True)
class RecipeSpec(Generic[R]):
    """A kind of training.

    name: what users type, and what `kind` says in its TOML files. model: those files, checked. prepare: makes what is
    still missing in the run folder, telling of each thing that is done, and may be closed after any; build: makes the
    task of a recipe, which trains at that placement in that run folder. export: writes what the newest checkpoint of
    the folder learned in the form that others read, and returns where it lies. defaults: the TOML file that the name
    stands for. splits: whether its steps can be computed in parts and on several processes.
    """

    name: str
    model: type[R]
    build: Callable[[R, Placement, Path], Task[Any]]
    export: Callable[[R, Path], Path]
    defaults: Path
    help: str
    aliases: tuple[str, ...] = ()
    splits: bool = False
    prepare: Callable[[R, Placement, Path], Iterator[TrainingEvent]] | None = None


Recipes = Mapping[str, RecipeSpec[Any]]


@cache
def recipes() -> Recipes:
    """The kinds of training of this package, by name."""
    return cast("Recipes", discover(recipe_modules, RecipeSpec))


def find(source: str, known: Recipes) -> RecipeSpec[Any]:
    """The kind of training that `source` is of: its name, a TOML file, or the recipe.json of a run. Raises BadFile."""
    kind = source if _named(source, known) else parsed(_file(source, known)).get("kind")
    spec = _named(kind, known)
    if spec is None:
        raise BadFile(source, f"is a recipe of kind {kind!r}: the kinds are {', '.join(known)}")
    return spec


def read(source: str, spec: RecipeSpec[R], changes: Mapping[str, object] | None = None) -> R:
    """The recipe that `source` names, as for `find`, with changes made in it: dotted key -> value.

    Raises BadInput or BadFile naming the key.
    """
    known = {spec.name: spec}
    table = parsed(spec.defaults if _named(source, known) else _file(source, known))
    if table.get("kind") != spec.name:
        raise BadFile(source, f"is a recipe of kind {table.get('kind')!r}, not {spec.name!r}")
    return checked(table, spec.model, changes or {}, source)


def _named(name: object, known: Recipes) -> RecipeSpec[Any] | None:
    return next((spec for spec in known.values() if name in (spec.name, *spec.aliases)), None)


def _file(source: str, known: Recipes) -> Path:
    if not Path(source).is_file():
        raise BadFile(source, f"no such recipe: give a TOML file, or one of {', '.join(known)}")
    return Path(source)
