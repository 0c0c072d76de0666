"""Tables in pages of the documentation, between marks that say which table stands there."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


def write(path: Path, page: Callable[[str], str]) -> None:
    """Makes the tables of the page at `path` anew; with --check only exits, with a line where they are not current."""
    text = path.read_text(encoding="utf-8")
    made = page(text)
    if "--check" in sys.argv[1:]:
        sys.exit(None if made == text else f"{path.name} is not current: run {sys.argv[0]}")
    path.write_text(made, encoding="utf-8")
    print(path)


def filled(text: str, name: str, body: str) -> str:
    """`text` with `body` between the marks <!-- name --> and <!-- /name -->. Raises ValueError without them."""
    parts = re.split(rf"(<!-- /?{re.escape(name)} -->\n)", text)
    if len(parts) != 5:
        raise ValueError(f"the page has no marks <!-- {name} --> and <!-- /{name} -->")
    return "".join((parts[0], parts[1], "\n", body, "\n", parts[3], parts[4]))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; cells are Markdown too."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))
