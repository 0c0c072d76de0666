"""The OpenAPI document: each refusal has its dialect's shape, and what needs a key says so."""

from __future__ import annotations

import re
from typing import Any, cast

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from atelier.api.front import front_of, fronts, is_public

_PARAMETER = re.compile(r"\{\w+\}")
_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
Document = dict[str, Any]
_TEXT = {"type": "string"}
EVENT = {"type": "object", "properties": {"id": _TEXT, "event": _TEXT, "data": _TEXT}, "required": ["event", "data"]}
"""One server-sent event; its data is JSON."""


def document(app: FastAPI) -> Document:
    """Made once, when it is first asked for."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        _describe(made)
        app.openapi_schema = made
    return app.openapi_schema


def methods_at(app: FastAPI, path: str) -> tuple[str, ...]:
    """The methods that a path has; where several templates fit, those of the one with the fewest parameters."""
    paths = cast("Document", document(app)["paths"])
    fitting = [template for template in paths if re.fullmatch(_PARAMETER.sub("[^/]+", template), path)]
    if not fitting:
        return ()
    nearest = min(fitting, key=lambda template: template.count("{"))
    return tuple(method.upper() for method in paths[nearest] if method in _METHODS)


def _describe(made: Document) -> None:
    components = cast("Document", made.setdefault("components", {}))
    schemas = cast("Document", components.setdefault("schemas", {}))
    for front in fronts().values():
        shape = front.error.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        schemas |= cast("Document", shape.pop("$defs", {}))
        schemas[front.error.__name__] = shape
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "basic": {"type": "http", "scheme": "basic"},
    }
    for path, item in cast("Document", made["paths"]).items():
        for method, operation in cast("Document", item).items():
            if method in _METHODS:
                _describe_operation(path, cast("Document", operation))
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["schemas"] = schemas


def _describe_operation(path: str, operation: Document) -> None:
    error = front_of(path).error.__name__
    responses = cast("Document", operation["responses"])
    responses.pop("422", None)
    for response in responses.values():
        stream = cast("Document", response).get("content", {}).get("text/event-stream")
        if stream is not None:
            stream["schema"] = EVENT
    responses["default"] = {
        "description": "Refused, or failed.",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{error}"}}},
    }
    if not is_public(path):
        operation["security"] = [{"bearer": []}, {"basic": []}]
