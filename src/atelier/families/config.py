"""JSON settings beside weights, read strictly: every complaint names the file, the key and the value."""

from __future__ import annotations

import json
import sys
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from atelier.errors import BadFile
from atelier.weights.formats.safetensors import shown
from atelier.weights.formats.text import read_text

T = TypeVar("T", bound=str)

MAX_CONFIG = 5_000_000
MAX_WHOLE = 10_000_000
MAX_SCALE = 100


@dataclass(frozen=True, slots=True)
class Config:
    """One JSON object. A key that is absent or null has the default that the reader names."""

    path: Path
    values: Mapping[str, object]

    @classmethod
    def read(cls, path: Path) -> Config:
        """Raises BadFile for a file that is missing, too large, or no JSON object."""
        try:
            if path.stat().st_size > MAX_CONFIG:
                raise BadFile(path, "is too large for a configuration")
            return cls.parse(read_text(path), path)
        except FileNotFoundError as error:
            raise BadFile(path, "does not exist; the folder is no complete diffusers model") from error
        except OSError as error:
            raise BadFile(path, f"cannot be read ({error.strerror or error})") from error

    @classmethod
    def parse(cls, text: str, path: Path) -> Config:
        try:
            found = cast("object", json.loads(text))
        except (ValueError, RecursionError) as error:
            raise BadFile(path, f"holds settings that are not valid JSON ({shown(str(error))})") from error
        if not isinstance(found, dict):
            raise BadFile(path, "holds settings that are no JSON object")
        return cls(path, cast("dict[str, object]", found))

    def whole(self, key: str, default: int) -> int:
        """A whole number of at least 1."""
        found = self.optional(key)
        return default if found is None else found

    def optional(self, key: str) -> int | None:
        """A whole number of at least 1, or None."""
        found = self.values.get(key)
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= MAX_WHOLE:
            raise self.wrong(key, "a whole number of at least 1")
        return found

    def wholes(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Whole numbers of at least 1; a single one counts as a list."""
        found = self.values.get(key)
        if found is None:
            return default
        items = cast("list[object]", found) if isinstance(found, list) else [found]
        if not items or not all(isinstance(i, int) and not isinstance(i, bool) and 1 <= i <= MAX_WHOLE for i in items):
            raise self.wrong(key, "whole numbers of at least 1")
        return tuple(cast("list[int]", items))

    def number(self, key: str, default: float, *, low: float = 1e-9) -> float:
        """A finite number of at least `low`."""
        found = self.values.get(key)
        if found is None:
            return default
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not low <= found <= sys.float_info.max:
            raise self.wrong(key, f"a number of at least {low:g}")
        return float(found)

    def scale(self, key: str) -> float | None:
        """A number from 0 to 100, or None."""
        value = None if self.values.get(key) is None else self.number(key, 0.0, low=0.0)
        if value is not None and value > MAX_SCALE:
            raise self.wrong(key, f"a number of at most {MAX_SCALE}")
        return value

    def choice(self, key: str, choices: tuple[T, ...]) -> T:
        """One of `choices`; the first is the default."""
        found = self.values.get(key)
        if found is None:
            return choices[0]
        if found not in choices:
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return cast("T", found)

    def flag(self, key: str, *, default: bool) -> bool:
        found = self.values.get(key)
        if found is None:
            return default
        if not isinstance(found, bool):
            raise self.wrong(key, "true or false")
        return found

    def objects(self, key: str) -> dict[str, Config]:
        """An object whose values are objects; none where the key is absent."""
        found = self.values.get(key, cast("dict[str, object]", {}))
        table = cast("dict[str, object]", found) if isinstance(found, dict) else {"": found}
        if not all(isinstance(value, dict) for value in table.values()):
            raise self.wrong(key, "an object of objects")
        return {name: Config(self.path, cast("dict[str, object]", value)) for name, value in table.items()}

    def only(self, supported: Mapping[str, tuple[object, ...]]) -> None:
        """Refuses a setting that would change the network in a way it cannot be built here."""
        for key, allowed in supported.items():
            if key in self.values and not any(_same(self.values[key], value) for value in allowed):
                raise self.wrong(key, " or ".join(json.dumps(value) for value in allowed))

    def agrees(self, key: str, stored: object) -> None:
        """Refuses a setting that contradicts what the weights beside it say."""
        if self.values.get(key) is not None and not _same(self.values[key], stored):
            raise BadFile(self.path, f"says {key} is {self._stated(key)}, but the weights have {json.dumps(stored)}")

    def known(self, keys: Container[str]) -> None:
        """Refuses keys that nobody reads."""
        for key in self.values:
            if key not in keys:
                raise BadFile(self.path, f"has a setting that is not known: {shown(key)}; take it out")

    def wrong(self, key: str, needed: str) -> BadFile:
        return BadFile(self.path, f"says {key} is {self._stated(key)}; {needed} is what can be used here")

    def _stated(self, key: str) -> str:
        return shown(json.dumps(self.values[key]))


def _same(left: object, right: object) -> bool:
    return left == right and isinstance(left, bool) == isinstance(right, bool)
