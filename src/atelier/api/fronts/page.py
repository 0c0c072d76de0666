"""The page at /: three files of our own, each at a path of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter, Response

from atelier.api.front import Front
from atelier.api.guards.headers import PAGE
from atelier.api.service import Service
from atelier.api.settings import Settings
from atelier.api.v1.errors import render
from atelier.api.v1.shapes import ErrorShape

FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
HEADERS = {"Content-Security-Policy": PAGE, "Cache-Control": "no-cache"}


def router(_service: Service, _settings: Settings) -> APIRouter:
    """A route for each file, read once."""
    made = APIRouter(include_in_schema=False)
    for path, (name, kind) in FILES.items():
        made.add_api_route(path, _sends((files("atelier.api") / "page" / name).read_bytes(), kind), methods=["GET"])
    return made


def _sends(data: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def sends() -> Response:
        return Response(data, headers={**HEADERS, "Content-Type": kind})

    return sends


SPECS = (Front(name="page", router=router, render=render, error=ErrorShape, prefixes=("/",), public=tuple(FILES)),)
