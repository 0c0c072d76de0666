"""The native API."""

from __future__ import annotations

from fastapi import APIRouter

from atelier.api.front import Front
from atelier.api.service import Service
from atelier.api.settings import Settings
from atelier.api.v1.errors import render
from atelier.runtime.jobs.job import NotReady


def router(service: Service, _settings: Settings) -> APIRouter:
    """All of /v1 but OpenAI's part of it, and the paths for those who watch the server."""
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/readyz")
    async def readyz() -> dict[str, str]:
        if not await service.ready():
            raise NotReady("the server starts: no worker is ready yet")
        return {"status": "ready"}

    return routes


SPECS = (
    Front(
        "native", router, render, prefixes=("/v1", "/healthz", "/readyz", "/metrics"), public=("/healthz", "/readyz")
    ),
)
