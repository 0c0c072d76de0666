"""Captions of many images in one file: JSON lines as data sets of images have them, kohya's JSON and its JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from atelier.errors import BadFile, shortened
from atelier.train.data.captions import lines
from atelier.train.data.opening import IMAGE_SUFFIXES
from atelier.weights.formats.text import read_text

BESIDE = "metadata.jsonl"
"""What the file is called that lies in the folder of its images."""
ENDINGS = (".json", ".jsonl")
NAMES, CAPTIONS = ("file_name", "image_path"), ("text", "caption")
TAGS = "tags"


def captions_in(path: Path, folder: Path) -> Mapping[Path, str]:
    """Captions by image, in the file's order; names are those in `folder` unless they are whole paths.

    The caption of an image without one is empty. Raises BadFile naming the line or key that cannot be used.
    """
    text = read_text(path)
    rows = _of_lines(text, path) if path.suffix.lower() == ".jsonl" else _of_object(text, path)
    found: dict[Path, str] = {}
    for name, row, where in rows:
        found[_image(folder / name)] = _caption(row, path, where)
    return found


def _of_lines(text: str, path: Path) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = _object(_parsed(line, path, f"line {number}"), path, f"line {number}")
            name = next((row[key] for key in NAMES if key in row), None)
            if not isinstance(name, str) or not name:
                raise BadFile(path, f"line {number} names no image: give it a {' or '.join(NAMES)}")
            yield name, row, f"line {number}"


def _of_object(text: str, path: Path) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    for name, row in _object(_parsed(text, path, "the file"), path, "the file").items():
        yield name, _object(row, path, shortened(repr(name))), shortened(repr(name))


def _parsed(text: str, path: Path, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFile(path, f"{where} is no JSON ({error})") from error


def _object(value: object, path: Path, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadFile(path, f"{where} is no JSON object with the keys of an image")
    return cast("dict[str, Any]", value)


def _caption(row: Mapping[str, Any], path: Path, where: str) -> str:
    """Tags follow each line of the caption."""
    said = next((row[key] for key in CAPTIONS if row.get(key) is not None), "")
    tags = row.get(TAGS) or ""
    if not isinstance(said, str) or not isinstance(tags, str):
        raise BadFile(path, f"{where}: the caption and the tags of an image are texts")
    tags = ", ".join(lines(tags).split("\n"))
    return "\n".join(", ".join(part for part in (line, tags) if part) for line in lines(said).split("\n"))


def _image(path: Path) -> Path:
    """The image itself where a name has no ending, as kohya's keys may be."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return path
    named = (path.with_name(f"{path.name}{suffix}") for suffix in sorted(IMAGE_SUFFIXES))
    return next((image for image in named if image.is_file()), path)
