"""Tables in pages of the documentation, between marks that say which table stands there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def filled(text: str, name: str, body: str) -> str:
    """`text` with `body` between the marks <!-- name --> and <!-- /name -->. Raises ValueError without them."""
    parts = re.split(rf"(<!-- /?{re.escape(name)} -->\n)", text)
    if len(parts) != 5:
        raise ValueError(f"the page has no marks <!-- {name} --> and <!-- /{name} -->")
    return "".join((parts[0], parts[1], "\n", body, "\n", parts[3], parts[4]))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; cells are Markdown too."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))
