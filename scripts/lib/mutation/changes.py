"""Which lines are to be mutated: of the files that are named, or those that a change touches, by git."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

SOURCES = "src"
HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


class Misused(Exception):
    """The command line asks for what is not there; one line."""


def git(root: Path, *arguments: str) -> str:
    """What git prints. Raises Misused with the last line of its complaint."""
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S607 - git of PATH
    if done.returncode:
        raise Misused(f"git {arguments[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout


def files(root: Path, *options: str) -> list[str]:
    """The files of the working tree that git does not ignore, relative to the root."""
    names = git(root, "ls-files", "-z", *(options or ("--cached", "--others")), "--exclude-standard").split("\0")
    return sorted({name for name in names if name and (root / name).is_file()})


def named(root: Path, paths: Iterable[str]) -> list[str]:
    """The Python files of the sources that `paths` (files or folders) name. Raises Misused for a path with none."""
    every = [name for name in files(root) if name.endswith(".py") and PurePosixPath(name).parts[0] == SOURCES]
    found: set[str] = set()
    for path in paths:
        asked = (Path.cwd() / path).resolve()
        below = [name for name in every if (root / name).resolve().is_relative_to(asked)]
        if not below:
            raise Misused(f"{path}: no Python file of {SOURCES}/ is there")
        found.update(below)
    return sorted(found)


def base(root: Path) -> str:
    """The commit that the present change starts from: HEAD where something is not committed, else where the branch left
    the main one."""
    if git(root, "status", "--porcelain", "--", SOURCES).strip():
        return "HEAD"
    return git(root, "merge-base", "main", "HEAD").strip()


def changed(root: Path, since: str) -> dict[str, set[int]]:
    """The lines of the sources that are new or different since a commit, by file; new files are there as a whole."""
    _known(root, since)
    patch = git(root, "diff", "--unified=0", "--no-color", "--no-ext-diff", "--no-renames", since, "--", SOURCES)
    lines: dict[str, set[int]] = {}
    for part in re.split(r"^diff --git .*$", patch, flags=re.MULTILINE)[1:]:
        target = re.search(r"^\+\+\+ b/(.+\.py)$", part, re.MULTILINE)
        if target:
            hunks = ((int(first), int(count or 1)) for first, count in HUNK.findall(part))
            lines[target.group(1)] = {line for first, count in hunks for line in range(first, first + count)}
    for name in files(root, "--others"):
        if name.endswith(".py") and PurePosixPath(name).parts[0] == SOURCES:
            lines[name] = set(range(1, 1 + len((root / name).read_bytes().splitlines())))
    return lines


def _known(root: Path, commit: str) -> None:
    try:
        git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    except Misused:
        raise Misused(f"{commit}: no commit of that name") from None
