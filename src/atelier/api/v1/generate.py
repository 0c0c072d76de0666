"""The body of POST /v1/jobs: the fields of a request side by side, made from the one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from atelier.api.errors import NOT_ASKED
from atelier.api.v1.named import Named
from atelier.request.events import Json
from atelier.request.fields import SIDE_STEP
from atelier.request.groups import PROMPTS, Group, groups_of
from atelier.request.model import Request
from atelier.request.table import FIELDS, RequestField

IMAGES = ("image", "mask")
"""Fields that hold an image: what an upload is called, or its bytes in base64."""
PROMPT_LENGTH = 16_000
"""Characters."""
TEXT_LENGTH = 4096
"""Of every other text that is no image."""
MANY_TEXTS = 256
"""Of a field that is a list of them."""
NAMED_IN: Mapping[str, str] = {
    "model": "models",
    "refiner": "models",
    "hires_checkpoint": "models",
    "vae": "autoencoders",
    "sampler": "samplers",
    "hires_sampler": "samplers",
    "scheduler": "schedulers",
    "hires_scheduler": "schedulers",
    "hires_upscaler": "upscalers",
    "sd_upscale_upscaler": "upscalers",
    "postprocess_upscaler": "upscalers",
    "postprocess_upscaler_2": "upscalers",
    "styles": "styles",
}
"""Fields that name something, and the list below /v1 that tells what there is."""
_SIDES = frozenset({"width", "height", "view_width", "view_height"})
EXAMPLE: Mapping[str, Json] = {
    "prompt": "a red apple on a blue background",
    "negative_prompt": "blurry",
    "steps": 20,
    "sampler": "Euler a",
    "cfg_scale": 7.0,
    "seed": 7,
}


class _Shown(Named):
    model_config = ConfigDict(json_schema_extra={"examples": [dict(EXAMPLE)]})


def _model() -> type[BaseModel]:
    owners: dict[str | None, type[Group]] = {None: Request, **dict(groups_of(Request))}
    types = {group: get_type_hints(owner, include_extras=True) for group, owner in owners.items()}
    asked: dict[str, Any] = {
        name: _described(field, types[field.group][field.own])
        for name, field in FIELDS.items()
        if name not in NOT_ASKED
    }
    return create_model("GenerateFields", __base__=_Shown, **asked)


def _described(field: RequestField, annotation: object) -> tuple[object, object]:
    """The type and the rest of one field: the types of JSON are taken strictly, but a list is a tuple."""
    default = ... if field.name == "prompt" else field.default
    info = Field(
        description=" ".join(part for part in (field.help.text, _unset(field)) if part),
        strict=None if field.kind not in {"size", "texts"} else False,
        multiple_of=SIDE_STEP if field.name in _SIDES else None,
        max_length=_length(field),
        fail_fast=True if field.kind == "texts" else None,  # one wrong text is told of, not thousands
        json_schema_extra=_for_forms(field),
    )
    return Annotated[annotation, info], default


def _for_forms(field: RequestField) -> dict[str, Json]:
    """What a form needs beside the limits: the group it stands in, and the list of /v1 that names its values."""
    shown: dict[str, Json] = {"x-group": field.group or "basic", "x-kind": field.kind}
    return shown | ({"x-list": NAMED_IN[field.name]} if field.name in NAMED_IN else {})


def _unset(field: RequestField) -> str:
    return f"Unless given: {field.help.unset}." if field.help.unset else ""


def _length(field: RequestField) -> int | None:
    if field.kind == "texts":
        return MANY_TEXTS
    if field.kind != "text" or field.name in IMAGES:
        return None
    return PROMPT_LENGTH if field.name in PROMPTS else TEXT_LENGTH


if TYPE_CHECKING:

    class GenerateFields(BaseModel): ...
else:
    GenerateFields = _model()
"""The fields of `request.table.FIELDS` but its output, with their limits, defaults and help."""


def given(body: BaseModel) -> dict[str, Json]:
    """The fields that were sent, as JSON has them."""
    return cast("dict[str, Json]", body.model_dump(mode="json", exclude_unset=True))
