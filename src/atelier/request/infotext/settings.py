"""From pairs of text to typed settings: numbers checked, old and foreign ways of saying things understood."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from atelier.errors import BadInput
from atelier.request.guidances import SWITCHED
from atelier.request.infotext.keys import BY_NAME, Key, Settings, Value
from atelier.request.infotext.record import Infotext
from atelier.request.infotext.version import Version, version_of
from atelier.request.resolved import Size

_SIZE = re.compile(r"\s*(-?\d{1,9})\s*[x×*]\s*(-?\d{1,9})\s*")
_NUMBER = re.compile(r"[+-]?(?:\d{1,30}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,4})?")
_NOTHING = frozenset({"", "undefined", "unknown", "null", "[object object]"})
"""What programs write, folded, where they have no value."""
_OWN_VAE = frozenset({"automatic", "none", "default", "default (model)", "baked vae"})
"""Names of a VAE, folded, that ask for the model's own."""
_OLD_PIXELS = 512 * 512
_OLD_STEP = 64


@dataclass(frozen=True, slots=True)
class Reading:
    """settings, and in words: what could not be used and was left out, and what lies (numbers out of range)."""

    settings: Settings
    warnings: tuple[str, ...] = ()
    lies: tuple[str, ...] = ()

    def checked(self) -> Settings:
        """The settings. Raises BadInput if the infotext lies."""
        if self.lies:
            raise BadInput(f"infotext: {self.lies[0]}")
        return self.settings


def settings_of(found: Infotext) -> Reading:
    """The typed settings of an infotext. Never raises.

    A value that is no number, or out of range, is left out and reported. What old versions of A1111 said otherwise is
    said in today's words: the size of the first pass, hypernetworks, the schedule in the sampler's name.
    """
    reader = _Reader(is_own=found.dialect == "atelier")
    for name, text in found.pairs:
        reader.take(name, text)
    values = reader.values
    _old_hires(values, reader.other)
    prompt = found.prompt + _hypernet(reader.other)
    _back_compatible(values, found, version_of(found.get("Version")))
    _in_percent(values, found)
    _switched_off(values)
    settings = Settings(
        prompt=prompt,
        negative_prompt=found.negative_prompt,
        extras=tuple(reader.extras),
        **cast("dict[str, int | str | None]", values),  # pyright: ignore[reportArgumentType] - checked by kind
    )
    return Reading(settings, (*found.warnings, *reader.warnings), tuple(reader.lies))


class _Reader:
    """Takes pairs; other: keys of old versions that become something else. is_own: this program wrote them, which
    leaves out what has no value, so that any word is one."""

    def __init__(self, *, is_own: bool) -> None:
        self.is_own = is_own
        self.values: dict[str, Value | None] = {}
        self.other: dict[str, str] = {}
        self.extras: list[tuple[str, str]] = []
        self.warnings: list[str] = []
        self.lies: list[str] = []

    def take(self, name: str, text: str) -> None:
        key = BY_NAME.get(name.casefold())
        if name in _OLD_KEYS and not text.startswith("["):  # in the caption of a grid: [SEE ROW]
            self.other[name] = text
        elif key is None:
            self.extras.append((name, text))
        elif self.is_own or text.strip().casefold() not in (_NOTHING | _OWN_VAE if key.field == "vae" else _NOTHING):
            self._take_value(key, name, text)

    def _take_value(self, key: Key, name: str, text: str) -> None:
        value = _PARSERS[key.kind](text)
        if value is None:
            if not (key.kind == "size" and _SIZE.fullmatch(text)):
                self.warnings.append(f"{name}: {_short(text)} is left out, {_WANTED[key.kind]} is needed")
        elif not _in_range(key, value):
            self.lies.append(f"{name} {_short(text)} is out of range: it is from {_range(key)}")
        else:
            self.values[key.field] = None if value == key.neutral else value


_OLD_KEYS = frozenset({"First pass size", "Hypernet", "Hypernet hash", "Hypernet strength"})

_WANTED: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "flag": "True or False",
    "size": "WIDTHxHEIGHT",
    "text": "text",
}


def number(text: str) -> int | float | None:
    """A finite number as it was written: without a point or an exponent it is an int."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    if text.lstrip("+-").isdecimal():
        return int(text)
    value = float(text)
    return value if math.isfinite(value) else None


def _whole(text: str) -> int | None:
    value = number(text)
    return None if value is None else int(value)


def _flag(text: str) -> bool | None:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().casefold())


def _size(text: str) -> Size | None:
    found = _SIZE.fullmatch(text)
    size = Size(int(found[1]), int(found[2])) if found else None
    return size if size and min(size) >= 0 else None


def _text(text: str) -> str:
    return text


_PARSERS: Mapping[str, Callable[[str], Value | None]] = {
    "int": _whole,
    "float": number,
    "flag": _flag,
    "size": _size,
    "text": _text,
}


def _in_range(key: Key, value: Value) -> bool:
    if isinstance(value, str | bool):
        return True
    numbers = value if isinstance(value, tuple) else (value,)
    low = -math.inf if key.low is None else key.low
    high = math.inf if key.high is None else key.high
    return all(low <= n <= high for n in numbers)


def _range(key: Key) -> str:
    low, high = ("…" if n is None else f"{n:g}" if abs(n) < 1e6 else str(int(n)) for n in (key.low, key.high))
    return f"{low} to {high}"


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 40 else f"{shown[:37]}…"


def _hypernet(other: Mapping[str, str]) -> str:
    """The tag that a hypernetwork of an old infotext is in today's prompts."""
    name = other.get("Hypernet", "")
    return f"<hypernet:{name}:{other.get('Hypernet strength', '1.0')}>" if name else ""


def _old_hires(values: dict[str, Value | None], other: Mapping[str, str]) -> None:
    """`First pass size: AxB` (before 2023): Size was that of the finished image. 0x0 stands for about 512x512 in its
    proportions, in steps of 64 (docs/compatibility/infotexts.md)."""
    first, final = _size(other.get("First pass size", "")), values.get("size")
    if first is None or not isinstance(final, tuple) or min(final) < 1:
        return
    if min(first) == 0:
        scale = math.sqrt(_OLD_PIXELS / (final[0] * final[1]))
        first = Size(*(math.ceil(scale * side / _OLD_STEP) * _OLD_STEP for side in final))
    values["size"], values["hires_resize"] = first, final


def _in_percent(values: dict[str, Value | None], found: Infotext) -> None:
    """Forge says a share where the extension of A1111 says percent."""
    percentile = values.get("mimic_percentile")
    if (
        found.get("dynthres_threshold_percentile") is not None
        and isinstance(percentile, (int, float))
        and percentile <= 1
    ):
        values["mimic_percentile"] = 100 * percentile


def _switched_off(values: dict[str, Value | None]) -> None:
    """Settings of what is said to be off say nothing."""
    for switched in SWITCHED:
        if values.get(switched.flag) is False:
            values |= dict.fromkeys((switched.flag, *switched.names))


def _back_compatible(values: dict[str, Value | None], found: Infotext, version: Version | None) -> None:
    """What a version of A1111 did that later ones do only when told (docs/compatibility/infotexts.md)."""
    if version is None or not version.is_a1111:
        return
    sampler = str(values.get("sampler", ""))
    flags = {
        "old_timelines": version < Version((1, 6, 0)) and "[" in found.prompt,
        "pad_conds_v0": version < Version((1, 6, 0)) and sampler in {"DDIM", "PLMS"},
        "downcast_alphas": version < Version((1, 7, 0), 225),
        "refiner_by_steps": version < Version((1, 8, 0)) and values.get("refiner") is not None,
    }
    for name, is_set in flags.items():
        if is_set and values.get(name) is None:
            values[name] = True
