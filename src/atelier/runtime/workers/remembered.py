"""The names of the last run: what a server lists until its resolver has started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import cast

from atelier.errors import AtelierError
from atelier.request.events import Json
from atelier.weights.formats.atomic import new_file


class Remembered:
    """A file beside the jobs. What is in it is the resolver's answer, of the same release of Atelier alone."""

    def __init__(self, path: Path, release: str) -> None:
        self._path, self._release = path, release
        self.listed = _read(path, release)

    def keep(self, listed: Mapping[str, Json]) -> None:
        """Nothing is lost where it cannot be written: the next server waits for its resolver."""
        self.listed = dict(listed)
        with suppress(AtelierError, OSError), new_file(self._path) as file:
            file.write(json.dumps({"release": self._release, "listed": self.listed}).encode())


def _read(path: Path, release: str) -> Mapping[str, Json] | None:
    """None where there is none, one of another release, or a damaged one."""
    try:
        found: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    said = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    listed = said.get("listed")
    same = said.get("release") == release and isinstance(listed, dict)
    return cast("dict[str, Json]", listed) if same else None
