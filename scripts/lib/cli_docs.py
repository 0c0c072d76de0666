"""Makes the tables of docs/cli.md from the command itself and from the table of fields.

scripts/lib/cli_docs.py            # writes the page
scripts/lib/cli_docs.py --check    # exit code 1 if it is not current
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from atelier.cli.fields import unset
from atelier.cli.generate import app
from atelier.request.table import FIELDS, RequestField
from doc_tables import filled, table, write

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
KINDS = {"int": "N", "float": "X", "flag": "", "text": "TEXT", "size": "WxH", "texts": "TEXT", "path": "PATH"}


def page(text: str) -> str:
    """The page with its tables made anew."""
    return filled(filled(text, "options", option_table()), "fields", field_table())


def option_table() -> str:
    """Every option of `atelier generate`, in the order of its help."""
    return table(("option", "meaning", "range", "if not given"), option_rows())


def option_rows() -> Iterator[Sequence[str]]:
    command: Any = typer.main.get_command(app)
    for option in command.params:
        if not option.opts[0].startswith("--"):
            continue
        field = FIELDS.get(option.name)
        value = option.metavar or ("" if option.is_flag else KINDS[_kind(option, field)])
        names = ", ".join(f"`{f'{name} {value}'.strip()}`" for name in (*option.opts[:1], *option.secondary_opts))
        also = "".join(f", `{name}`" for name in option.opts[1:])
        default = option.show_default if isinstance(option.show_default, str) else option.default
        shown = "" if option.is_flag and not isinstance(option.show_default, str) else str(default or "")
        yield names + also, plain(option.help), "" if field is None else limits(field), shown


def _kind(option: Any, field: RequestField | None) -> str:
    return "path" if field is None and option.metavar is None else "text" if field is None else field.kind


def field_table() -> str:
    """Every field without an option of its own."""
    rows = ((f"`{f.name}`", plain(f.help.text), limits(f), unset(f)) for f in FIELDS.values() if f.option is None)
    return table(("field", "meaning", "range", "if not given"), rows)


def plain(text: str) -> str:
    """Text that is no Markdown, as a cell of a table."""
    return text.replace("|", r"\|").replace("_", r"\_")


def limits(field: RequestField) -> str:
    """What numbers may be, powers of two as such."""
    if field.limits is None:
        return ""
    each = "each side " if field.kind == "size" else ""
    return f"{each}{_number(field.limits.low)} to {_number(field.limits.high)}"


def _number(value: float) -> str:
    powers = {2**64 - 1: "2^64 - 1", 2**63: "2^63", -(2**63): "-2^63"}
    return powers.get(int(value), f"{value}") if abs(value) > 2**32 else f"{value}"


if __name__ == "__main__":
    write(PAGE, page)
