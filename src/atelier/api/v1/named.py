"""Bodies that have these fields and no others."""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails


class Named(BaseModel):
    """The types of JSON are taken strictly. Of a body with more fields than there are, one unknown field is told:
    thousands would take long."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, data: object) -> object:
        given = cast("dict[str, object]", data)
        if isinstance(data, dict) and len(given) > len(cls.model_fields):
            unknown = next(name for name in given if name not in cls.model_fields)
            issue = InitErrorDetails(type="extra_forbidden", loc=(unknown,), input=None)
            raise ValidationError.from_exception_data(cls.__name__, [issue])
        return given
