"""Multipart bodies: text fields and a few images, in bounded number and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from atelier.api.errors import refuse
from atelier.api.uploads import check_kind, decoded

T = TypeVar("T", bound=BaseModel)
FILES = 18
"""The most that OpenAI takes: 16 images and a mask, and one that is too many."""
FIELDS = 200
TEXT_BYTES = 1 << 20
"""Of one text field."""


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent. files: by name, `image[]` under `image`."""

    texts: Mapping[str, str]
    files: Mapping[str, tuple[bytes, ...]]

    def image(self, name: str) -> bytes | None:
        """The one image of a name: a file, or text in base64. Raises Refused for several, or for what is no image."""
        found, text = self.files.get(name, ()), self.texts.get(name, "").strip()
        if len(found) + bool(text) > 1:
            raise refuse(422, f"{name}: {len(found) + bool(text)} files were sent, and one is taken", field=name)
        for data in found:
            check_kind(data, name)
        if text:
            return decoded(text, name)
        return found[0] if found else None

    def needed(self, name: str) -> bytes:
        """The same, where it may not lack."""
        data = self.image(name)
        if data is None:
            raise refuse(422, f"{name} is missing: send a PNG, JPEG or WebP", field=name)
        return data


async def read(request: Request) -> Form:
    """The form of a request. Raises HTTPException (400) for one that is broken or has too many parts."""
    texts: dict[str, str] = {}
    files: dict[str, tuple[bytes, ...]] = {}
    async with request.form(max_files=FILES, max_fields=FIELDS, max_part_size=TEXT_BYTES) as form:
        for key, value in form.multi_items():
            name = key.removesuffix("[]")
            if isinstance(value, UploadFile):
                files[name] = (*files.get(name, ()), await value.read())
            elif name in texts:
                raise refuse(400, f"{name[:60]!r} was sent twice: name each field once")
            else:
                texts[name] = value
    return Form(texts, files)


def parsed(model: type[T], form: Form) -> T:
    """The text fields as a model: numbers and flags are read from their text. Raises RequestValidationError."""
    try:
        return model.model_validate({n: _value(n, text) for n, text in form.texts.items() if text != ""})
    except ValidationError as error:
        issues: list[Any] = [{**issue, "loc": ("body", *issue["loc"])} for issue in error.errors(include_url=False)]
        raise RequestValidationError(issues) from None


_NUMBER = TypeAdapter[int | float | bool](int | float | bool)
_TEXTS = frozenset({"prompt", "negative_prompt", "model", "user", "hires_prompt", "hires_negative_prompt"})


def _value(name: str, text: str) -> object:
    if name in _TEXTS:
        return text
    try:
        return _NUMBER.validate_json(text)
    except ValidationError:
        return text


def schema(model: type[BaseModel], *files: str, needed: str = "image") -> dict[str, Any]:
    """The request body for OpenAPI."""
    shape = model.model_json_schema()
    binary = {"type": "string", "format": "binary"}
    shape["properties"] = {**dict.fromkeys(files, binary), **shape["properties"]}
    shape["required"] = [needed, *shape.get("required", ())]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": shape}}}}
