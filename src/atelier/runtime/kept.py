"""A small file of JSON that outlives the process: whole or as it was before, never half."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from atelier.errors import BadFile
from atelier.request.events import Json
from atelier.weights.formats.atomic import new_file

LARGEST = 1 << 20
"""Bytes: more is no file of ours."""


def read(path: Path) -> dict[str, Json]:
    """The object in the file; empty where there is no file. Raises BadFile."""
    try:
        if path.stat().st_size > LARGEST:
            raise BadFile(path, f"is larger than {LARGEST} bytes, which Atelier never writes; remove it")
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise BadFile(path, "is no JSON; remove it, or mend it") from None
    if not isinstance(found, dict):
        raise BadFile(path, "holds no object of JSON; remove it, or mend it")
    return cast("dict[str, Json]", found)


def write(path: Path, values: Mapping[str, Json]) -> None:
    """Replaces the file, synced. Raises StorageFull and BadFile; the file is then as it was."""
    text = json.dumps(dict(values), indent=1, sort_keys=True, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as file:
        file.write(text.encode("ascii"))
