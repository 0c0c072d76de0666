"""The studio: one page at the address of each of its screens, and the built files that it is made of."""

from __future__ import annotations

import gzip
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, HTTPException, Request, Response

from atelier.api.front import Front
from atelier.api.guards.headers import PAGE
from atelier.api.service import Service
from atelier.api.settings import Settings
from atelier.api.v1.errors import render
from atelier.api.v1.shapes import ErrorShape

SCREENS = ("/", "/canvas", "/gallery", "/queue", "/teach", "/models", "/settings")
"""Addresses that show the page; which screen it shows, the page reads from the address."""
BELOW = "/studio/"
"""Where the built files are."""
WORKER = "/sw.js"
"""The service worker: a browser lets it act only below its own address."""
NOT_BUILT = b"<!doctype html><title>Atelier</title><p>The studio is not built: run scripts/web build.</p>"
"""For those who work on the studio itself; the package brings the built files."""
COMPRESSED = frozenset({".js", ".css", ".html", ".svg", ".webmanifest"})
KINDS = {
    ".js": "text/javascript",
    ".webmanifest": "application/manifest+json",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
"""What a machine's own table of types may not know, or call otherwise."""
FRESH = "no-cache"
"""Asked for again each time: its name stays where its content changes."""
FOREVER = "public, max-age=31536000, immutable"
"""For files whose name holds the hash of their content."""


@dataclass(frozen=True)
class Built:
    """One built file. cache: the Cache-Control it is sent with."""

    name: str
    data: bytes
    cache: str

    @cached_property
    def packed(self) -> bytes:
        """Its data as gzip has it; without a time, so that it is the same each time."""
        return gzip.compress(self.data, mtime=0)

    @property
    def ending(self) -> str:
        return self.name[self.name.rfind(".") :]

    @property
    def kind(self) -> str:
        """Its media type."""
        kind = KINDS.get(self.ending) or mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def router(_service: Service, _settings: Settings) -> APIRouter:
    """A route for each screen, and one for the files, which are read once."""
    made = APIRouter(include_in_schema=False)
    built = {file.name: file for file in _read(files("atelier.api") / "studio")}
    page = built.get("index.html", Built("index.html", NOT_BUILT, FRESH))

    async def screen(request: Request) -> Response:
        return _answer(page, request)

    async def file(request: Request, name: str = WORKER[1:]) -> Response:
        if name not in built:
            raise HTTPException(404)
        return _answer(built[name], request)

    for path in SCREENS:
        made.add_api_route(path, screen, methods=["GET"])
    made.add_api_route(BELOW + "{name}", file, methods=["GET"])
    made.add_api_route(WORKER, file, methods=["GET"])
    return made


def _read(folder: Traversable) -> Iterator[Built]:
    for entry in folder.iterdir() if folder.is_dir() else ():
        hashed = entry.name.endswith((".js", ".css")) and "/" + entry.name != WORKER
        yield Built(entry.name, entry.read_bytes(), FOREVER if hashed else FRESH)


def _answer(file: Built, request: Request) -> Response:
    headers = {"Content-Type": file.kind, "Cache-Control": file.cache, "Content-Security-Policy": PAGE}
    if file.ending not in COMPRESSED:
        return Response(file.data, headers=headers)
    headers["Vary"] = "Accept-Encoding"
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return Response(file.data, headers=headers)
    return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"})


SPECS = (
    Front(
        name="studio",
        router=router,
        render=render,
        error=ErrorShape,
        prefixes=(*SCREENS, BELOW, WORKER),
        public=(*SCREENS, BELOW, WORKER),
    ),
)
