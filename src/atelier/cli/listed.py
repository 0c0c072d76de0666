"""`models list`, for people to read."""

from __future__ import annotations

from collections.abc import Iterator

from atelier.cli.described import megabytes, printable


def table(entries: list[dict[str, object]]) -> str:
    """A line for each entry of `runtime.listing`."""
    names = [printable(str(entry["name"])) for entry in entries]
    width = max(map(len, names))
    lines = (printable(", ".join(_line(entry))) for entry in entries)
    return "\n".join(f"{name:{width}}  {line}" for name, line in zip(names, lines, strict=True))


def _line(entry: dict[str, object]) -> Iterator[str]:
    if "problem" in entry:
        yield f"unusable: it {entry['problem']}"
        return
    yield str(entry["title"])
    if "size" in entry:
        yield f"{entry['size']} px"
        yield str(entry["layout"])
    elif entry["variant"]:
        yield str(entry["variant"])
    yield str(entry["dtype"])
    yield megabytes(int(str(entry["bytes"])))
