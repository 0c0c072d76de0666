"""Names the sources that the built studio was made of: web_sources.py (write | show)."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
NOTE = ROOT / "src" / "atelier" / "api" / "studio" / "sources.txt"
"""Beside the built files."""


def digest() -> str:
    """The SHA-256 of what a build reads: names and contents, in the order of the names."""
    hashed = hashlib.sha256()
    for path in sorted(_sources()):
        hashed.update(path.relative_to(WEB).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return hashed.hexdigest()


def _sources() -> Iterator[Path]:
    for name in ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"):
        yield WEB / name
    for folder in ("src", "public"):
        yield from (path for path in (WEB / folder).rglob("*") if path.is_file() and ".test." not in path.name)


def main() -> None:
    if sys.argv[1:] == ["write"]:
        NOTE.write_text(digest() + "\n")
    print(digest())


if __name__ == "__main__":
    main()
