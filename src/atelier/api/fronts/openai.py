"""OpenAI's dialect. Its /v1/models is the native one, whose answer satisfies both."""

from __future__ import annotations

from fastapi import APIRouter

from atelier.api.front import Front
from atelier.api.openai.answers import render
from atelier.api.openai.routes import routes
from atelier.api.service import Service
from atelier.api.settings import Settings
from atelier.api.v1.shapes import ErrorShape

FORM = ("multipart/form-data",)


def router(_service: Service, _settings: Settings) -> APIRouter:
    """Its routes."""
    return routes


SPECS = (
    Front(
        name="openai",
        router=router,
        render=render,
        error=ErrorShape,
        prefixes=("/v1/images/generations", "/v1/images/edits", "/v1/images/variations", "/v1/models", "/v1/files"),
        public=("/v1/files/",),
        bodies=(("/v1/images/edits", FORM), ("/v1/images/variations", FORM)),
    ),
)
