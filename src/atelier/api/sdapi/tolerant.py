"""Values as clients of A1111 send them: numbers as text, floats for whole numbers, 0 and 1 for yes and no."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

_NUMBER = re.compile(r"\s*[+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?\s*")
_FLAGS = {
    **dict.fromkeys(("true", "1", "yes", "on", "y", "t"), True),
    **dict.fromkeys(("false", "0", "no", "off", "n", "f", ""), False),
}


def number(value: object) -> int | float:
    """A finite number. Raises ValueError."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
    if not isinstance(value, int | float):
        raise ValueError("a number is needed")  # noqa: TRY004 - pydantic wants this
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a finite number is needed")
    return value


def whole(value: object) -> int:
    """A number cut off to a whole one, as A1111 does: 7.5 steps are 7. Raises ValueError."""
    return int(number(value))


def flag(value: object) -> bool:
    """Yes or no. Raises ValueError."""
    if isinstance(value, str) and value.strip().casefold() in _FLAGS:
        return _FLAGS[value.strip().casefold()]
    if isinstance(value, int | float) and value in {0, 1}:
        return bool(value)
    raise ValueError("true or false is needed")


def seed(value: object) -> int:
    """A seed: text that is no whole number is -1, which draws one. Raises ValueError for what is neither."""
    if isinstance(value, str):
        text = value.strip()
        return int(text) if re.fullmatch(r"[+-]?\d{1,25}", text) else -1
    return whole(value)


def names(value: object) -> list[str]:
    """A list of names; one alone is a list too, and empty ones are none. Raises ValueError."""
    given = cast("list[object]", value) if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in given):
        raise ValueError("a list of names is needed")
    return [name for name in cast("list[str]", given) if name.strip()]


def listed(value: object) -> object:
    """One value where several may stand is a list of it."""
    return [cast("object", value)] if isinstance(value, str | dict) else value


def by_name(value: object) -> object:
    """PHP and some others write an empty object as an empty list."""
    return {} if value in ([], "") else value


def _any(*kinds: dict[str, Any]) -> WithJsonSchema:
    """What JSON schema says of a type that reads more than it is."""
    return WithJsonSchema({"anyOf": list(kinds)})


_TEXT = {"type": "string"}
_NUMERIC = (
    {"type": "number"},
    {"type": "boolean"},
    {"type": "string", "pattern": r"^\s*[+-]?[0-9]{1,40}(\.[0-9]{0,40})?\s*$"},
)
_SWITCH = ({"type": "boolean"}, {"enum": [0, 1]}, {"type": "string", "enum": sorted(_FLAGS)})
Whole = Annotated[int, BeforeValidator(whole), _any(*_NUMERIC)]
Number = Annotated[float, BeforeValidator(lambda value: float(number(value))), _any(*_NUMERIC)]
Flag = Annotated[bool, BeforeValidator(flag), _any(*_SWITCH)]
Seed = Annotated[int, BeforeValidator(seed), _any({"type": "number"}, {"type": "boolean"}, _TEXT)]
Names = Annotated[list[str], BeforeValidator(names), _any(_TEXT, {"type": "array", "items": _TEXT})]
Choice = Annotated[
    int | str,
    BeforeValidator(lambda value: value if isinstance(value, str) else whole(value)),
    _any({"type": "number"}, {"type": "boolean"}, _TEXT),
]
"""A number of a list, or the name that stands there."""


LONGEST = 128 << 20
"""Characters of a text: those of an image in base64, beyond any body that is read."""
TEXT = 16_000
"""Characters of a prompt, as in the native API."""
NAME = 1000
"""Of a name."""
Text = Annotated[str, Field(max_length=TEXT)]
Name = Annotated[str, Field(max_length=NAME)]


def _or_null(schema: dict[str, Any]) -> None:
    """Every field may be null."""
    for name, one in schema["properties"].items():
        kinds = one.pop("anyOf", None) or [{key: one.pop(key) for key in list(one) if key not in {"default", "title"}}]
        schema["properties"][name] = {**one, "anyOf": [*kinds, {"type": "null"}]}


class Body(BaseModel):
    """What a client sends: what nobody knows is ignored, and null is as good as nothing."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, protected_namespaces=(), json_schema_extra=_or_null, str_max_length=LONGEST
    )

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        given = cast("dict[str, object]", data)
        return {name: value for name, value in given.items() if value is not None}
