"""A1111's dialect: /sdapi/v1, and what its clients look for beside it."""

from __future__ import annotations

from fastapi import APIRouter

from atelier.api.front import Front
from atelier.api.sdapi import configure, controlnet, extras, generate, lists, probes, progress
from atelier.api.sdapi.dialect import opened
from atelier.api.sdapi.errors import A1111Error, render
from atelier.api.service import Service
from atelier.api.settings import Settings


def router(service: Service, settings: Settings) -> APIRouter:
    """All its routes. Raises BadFile where the file of options cannot be read."""
    dialect = opened(service, settings.options_file)
    made = APIRouter()
    for part in (generate, extras, progress, configure, lists):
        made.include_router(part.router(dialect))
    made.include_router(progress.internal(dialect))
    made.include_router(controlnet.router(dialect))
    made.include_router(probes.router(dialect, settings))
    return made


SPECS = (
    Front(
        "sdapi",
        router,
        render,
        A1111Error,
        prefixes=("/sdapi", "/controlnet", "/internal", "/queue", "/app_id", "/login"),
        public=("/internal/ping", "/app_id", "/app_id/", "/login"),
        bodies=(("/login", (probes.FORM,)),),
        challenge="Basic",
    ),
)
