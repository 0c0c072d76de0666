"""Where files lie on the server's machine, which is nobody's business."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from atelier.request.events import Json

if TYPE_CHECKING:
    from atelier.runtime.engine import Engine

PATH = "path"


def places_of(engine: Engine) -> tuple[Path, ...]:
    """The folders that messages of an engine may name."""
    words = engine.words.styles_file.absolute().parent, engine.words.wildcard_folder.absolute()
    return (*engine.library.folders, engine.library.find().path.parent, *words)


def without_places(text: str, places: Iterable[Path]) -> str:
    """A message that names files as they are called within these folders."""
    for place in places:
        for written in dict.fromkeys((str(place.absolute()), str(place))):
            text = text.replace(f"{written}/", "")
    return text


def outward(resolved: Mapping[str, Json]) -> dict[str, Json]:
    """What was settled, with the last part of each path in its place."""
    return {key: _outward(key, value) for key, value in resolved.items()}


def _outward(key: str, value: Json) -> Json:
    if isinstance(value, dict):
        return outward(value)
    if isinstance(value, list):
        return [_outward("", item) for item in value]
    return PurePath(value).name if key == PATH and isinstance(value, str) else value
