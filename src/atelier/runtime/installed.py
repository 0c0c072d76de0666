"""Where other programs on this machine keep their files: the folders of A1111's and ComfyUI's installations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from atelier.errors import BadFile
from atelier.weights.formats.text import read_text

OWN_FOLDERS = ("models", "embeddings", "extensions/sd-webui-controlnet/models")
"""Below an installation of either program."""
PATHS_FILE = "extra_model_paths.yaml"
BASE, DEFAULT = "base_path", "is_default"
MAX_PATHS = 1_000_000


def installed(root: Path) -> tuple[Path, ...]:
    """The folders with files of weights of an installation, and those that its settings add. Raises BadFile."""
    if not root.is_dir():
        raise BadFile(root, "is no folder of an installation: there is none of that name")
    own = [root / name for name in OWN_FOLDERS if (root / name).is_dir()]
    extra = added(root / PATHS_FILE) if (root / PATHS_FILE).is_file() else ()
    if not own and not extra:
        raise BadFile(root, f"is no installation of A1111 or ComfyUI: it has neither models nor {PATHS_FILE}")
    return tuple(dict.fromkeys((*own, *extra)))


def added(file: Path) -> tuple[Path, ...]:
    """The folders that an extra_model_paths.yaml names and that are there.

    The file is read as lines of sections, keys and paths, which is all that it holds; nothing else of YAML is. Raises
    BadFile.
    """
    if file.stat().st_size > MAX_PATHS:
        raise BadFile(file, "is too large for a list of folders")
    base, found = Path(), list[Path]()
    for key, value in _settings(read_text(file)):
        if key == "":
            base = Path()
        elif key == BASE:
            base = Path(value).expanduser()
        elif key != DEFAULT and value:
            found.append(base / Path(value).expanduser())
    return tuple(folder for folder in dict.fromkeys(found) if folder.is_dir())


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """(key, value) of every line; ("", "") where a section begins. Lines below a key that ends in | are its values."""
    key, deep = "", 0
    for line in text.splitlines():
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        if key and indent > deep:
            yield key, _plain(bare)
            continue
        name, colon, value = bare.partition(":")
        key, deep = "", indent
        if indent == 0:
            yield "", ""
        elif colon and value.strip() in {"|", "|-", ">", ">-"}:
            key = name.strip()
        elif colon:
            yield name.strip(), _plain(value.strip())


def _plain(value: str) -> str:
    """A value without a comment behind it and without quotes."""
    if value[:1] in {"'", '"'}:
        return value[1:].partition(value[0])[0]
    return value.partition(" #")[0].strip()
