"""Names and shapes of published files, from beside the project where they are there."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from facts import FACTS


def key_list(name: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of one published file. Skips the test where the lists are not there."""
    return {key: tuple(shape) for key, shape in published(name)["keys"].items()}


def published(name: str) -> dict[str, Any]:
    """All that is known of one published file. Skips the test where the lists are not there."""
    found = FACTS / "keys" / f"{name}.json"
    if not found.is_file():
        pytest.skip("the lists of published files are not beside the project")
    return json.loads(found.read_text())


def sparse(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A .safetensors file of float16 zeros that takes no room on the disk."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path
