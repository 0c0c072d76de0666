"""The options of a command that are fields of a request, made of the table of fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, final

import typer

from atelier.request.table import FIELDS, RequestField

TYPES: Mapping[str, Any] = MappingProxyType(
    {"int": int, "float": float, "flag": bool, "text": str, "size": str, "texts": list[str]}
)
"""Kinds of fields as typer reads their values."""


@final
class Command:
    """A command with an option for every field that has one, in the order of the table, before its own options.

    run: what the command does. It is given the fields that were said, by name, and its own parameters. Its docstring
    is the help.
    """

    def __init__(self, run: Callable[..., None]) -> None:
        own = tuple(inspect.signature(run, eval_str=True).parameters.values())[1:]
        made = tuple(parameter(field) for field in FIELDS.values() if field.option is not None)
        self.run, self.names = run, tuple(p.name for p in made)
        self.__name__, self.__doc__ = run.__name__, run.__doc__
        self.__signature__ = inspect.Signature([*made, *own])
        self.__annotations__ = {p.name: p.annotation for p in (*made, *own)}

    def __call__(self, **values: object) -> None:
        said = {name: value for name in self.names if (value := values.pop(name)) is not None}
        self.run(said, **values)


def parameter(field: RequestField) -> inspect.Parameter:
    """The parameter of typer that a field is."""
    option = field.option
    assert option is not None
    names = option.names or (f"--{field.name.replace('_', '-')}",)
    shown = option.default or unset(field)
    if field.name == "prompt":
        given = typer.Argument(help=field.help.text, show_default=False)
    else:
        given = typer.Option(*names, help=field.help.text, show_default=shown, rich_help_panel=option.panel)
    kind = Annotated[TYPES[field.kind] | None, given]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def defaults() -> dict[str, object]:
    """What the command line takes where a field is left open and the request itself would take nothing."""
    options = ((name, field.option) for name, field in FIELDS.items())
    return {name: option.default for name, option in options if option is not None and option.default is not None}


def unset(field: RequestField) -> str:
    """In words: what holds where a field is not given."""
    if field.help.unset or field.default is None:
        return field.help.unset
    return {"True": "yes", "False": "no"}.get(str(field.default), str(field.default))
