"""The table of annotators in docs/steering.md, from the registry: annotator_docs.py writes it, and with --check it
compares."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from atelier.vision.annotate import annotators
from atelier.vision.annotating import Annotator, NeedsFile, OptionSpec
from doc_tables import filled, table, write

PAGE = Path(__file__).parents[2] / "docs" / "steering.md"


def page(text: str) -> str:
    return filled(text, "annotators", annotator_table())


def annotator_table() -> str:
    head = ("annotator", "what it draws", "options", "other names", "file")
    return table(head, (row(spec) for spec in annotators().values()))


def row(spec: Annotator) -> tuple[str, ...]:
    files = spec.draw.files if isinstance(spec.draw, NeedsFile) else ()
    return f"`{spec.name}`", spec.help, ", ".join(map(option, spec.options)), quoted(spec.aliases), quoted(files[:1])


def option(spec: OptionSpec) -> str:
    return f"`{spec.name}` {spec.default:g} ({spec.low:g} to {spec.high:g})"


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    write(PAGE, page)
