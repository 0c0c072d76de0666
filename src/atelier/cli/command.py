"""A command that quotes what it cannot read, tells of an option given twice, and answers in JSON if asked to."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import typer
from typer.core import TyperCommand, TyperOption

from atelier.cli.failure import failure
from atelier.errors import BadInput, shortened

if TYPE_CHECKING:
    from typer import Context


JSON, AS_JSON = "--json", "as_json"
"""The option of commands that print JSON, and what they call it."""
TWICE = "atelier.twice"
"""The key of a context's notes for the options that were given more than once."""


class Strict(TyperCommand):
    """As typer's own, but that complaints quote the value, that options of one value that were given more than once
    are told of in the end, and that what fails where JSON is asked for is said in JSON too."""

    def make_context(  # pyright: ignore[reportIncompatibleMethodOverride] - typer's public name of the class
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: object
    ) -> Context:
        """Raises what is wrong with the arguments."""
        with self._answering(args):
            return cast("Context", super().make_context(info_name, args, parent, **extra))

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
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
            raise BadInput(
                f"{_named(error.param)} {shortened(repr(value))}: {reason[:1].lower()}{reason[1:]}"
            ) from None

    def invoke(self, ctx: Context) -> object:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        """What the command returns; it may have failed before, of which one line is enough."""
        with self._answering([JSON] if ctx.params.get(AS_JSON) else []):
            result = super().invoke(ctx)
        for name in ctx.meta[TWICE]:
            typer.echo(f"note: {name} is given more than once: the last one counts", err=True)
        return result

    @contextmanager
    def _answering(self, args: list[str]) -> Generator[None]:
        """Prints an error as a JSON object, besides raising it, where the command has the option and it is given."""
        has_json = JSON in args and any(JSON in param.opts for param in self.params)
        try:
            yield
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            message = failure(error).message
            if has_json and message:
                typer.echo(json.dumps({"error": message}, ensure_ascii=False))
            raise


def _named(param: object) -> str:
    """An option as people write it, an argument by its name."""
    return max(param.opts, key=len) if isinstance(param, TyperOption) else str(getattr(param, "name", "argument"))
