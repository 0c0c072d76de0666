"""The native API: all of /v1 but OpenAI's part of it, and the paths for those who watch the server."""

from __future__ import annotations

from fastapi import APIRouter

from atelier.api.front import Front
from atelier.api.service import Service
from atelier.api.settings import Settings
from atelier.api.v1 import (
    canvases,
    catalogue,
    events,
    gallery,
    health,
    images,
    jobs,
    kinds,
    prompts,
    queue,
    server,
    teaching,
    weights,
)
from atelier.api.v1.errors import render
from atelier.api.v1.shapes import ErrorShape


def router(_service: Service, _settings: Settings) -> APIRouter:
    """Its routes."""
    made = APIRouter()
    for module in (
        kinds, weights, teaching, jobs, queue, events, gallery, images, canvases, catalogue, prompts, server,
        health,
    ):  # fmt: skip
        made.include_router(module.routes)
    return made


SPECS = (
    Front(
        name="native",
        router=router,
        render=render,
        error=ErrorShape,
        prefixes=("/v1", "/healthz", "/readyz", "/metrics", "/openapi.json"),
        public=("/healthz", "/readyz"),
        bodies=(("/v1/uploads", images.TYPES), ("/v1/image-text", images.TYPES)),
    ),
)
