"""A command that quotes what it cannot read, and tells of an option that is given twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer.core import TyperCommand, TyperOption

from atelier.errors import BadInput

if TYPE_CHECKING:
    from typer import Context


TWICE = "atelier.twice"
"""The key of a context's notes for the options that were given more than once."""


class Strict(TyperCommand):
    """As typer's own, but that complaints quote the value, and that options of one value that were given more than once
    are told of in the end."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride] - typer's public name of the class
        """Raises BadInput for a value that cannot be read."""
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        single = [_named(param) for param in order if isinstance(param, TyperOption) and not param.multiple]
        ctx.meta[TWICE] = [name for name in dict.fromkeys(single) if single.count(name) > 1]
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            value = given.get(getattr(error.param, "name", None) or "")
            if value is None:
                raise
            reason = error.message.removeprefix("Value error, ")
            raise BadInput(f"{_named(error.param)} {_shown(value)}: {reason[:1].lower()}{reason[1:]}") from None

    def invoke(self, ctx: Context) -> object:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        """What the command returns; it may have failed before, of which one line is enough."""
        result = super().invoke(ctx)
        for name in ctx.meta[TWICE]:
            typer.echo(f"note: {name} is given more than once: the last one counts", err=True)
        return result


def _named(param: object) -> str:
    """An option as people write it, an argument by its name."""
    return max(param.opts, key=len) if isinstance(param, TyperOption) else str(getattr(param, "name", "argument"))


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
