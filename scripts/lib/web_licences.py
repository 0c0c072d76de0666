"""Collects the licences of the packages that the built studio holds, beside it: web_licences.py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from web_sources import NOTE, WEB

TARGET = NOTE.with_name("licences.txt")


def packages() -> Iterator[Path]:
    """The folders of all packages that are not only for development, sorted by name."""
    command = ("npm", "ls", "--omit=dev", "--all", "--parseable")
    told = subprocess.run(command, cwd=WEB, capture_output=True, text=True, check=True).stdout
    yield from sorted({Path(line) for line in told.splitlines()} - {WEB})


def licence(folder: Path) -> str:
    """What a package says of itself, and its licence's text where it brings it."""
    about = json.loads((folder / "package.json").read_text())
    head = f"{about['name']} {about['version']} ({about.get('license', 'no licence named')})"
    texts = [path.read_text().strip() for path in sorted(folder.glob("LICEN[CS]E*")) if path.is_file()]
    return "\n\n".join([head, *texts])


def main() -> None:
    bar = "\n\n" + "-" * 80 + "\n\n"
    TARGET.write_text(bar.join(licence(folder) for folder in packages()) + "\n")


if __name__ == "__main__":
    main()
