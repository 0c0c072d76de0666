"""For those who watch the server."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from atelier.api.caller import Admin, Behind
from atelier.api.guards.measured import metrics_of
from atelier.api.v1.shapes import Status
from atelier.runtime.jobs.job import NotReady

routes = APIRouter(tags=["health"])


@routes.get("/healthz")
async def healthz() -> Status:
    """The process answers."""
    return Status(status="ok")


@routes.get("/readyz")
async def readyz(service: Behind) -> Status:
    """Jobs are accepted and done; 503 while they are not."""
    if not await service.ready():
        raise NotReady("the server is not ready: no worker is there")
    return Status(status="ready")


@routes.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, service: Behind, _owner: Admin) -> PlainTextResponse:
    """In the text format of Prometheus."""
    counts = await service.counts()
    text = metrics_of(request.app).text(counts, ready=await service.ready())
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")
