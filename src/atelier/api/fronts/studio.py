"""The studio: one page at the address of each of its screens, and the built files that it is made of."""

from __future__ import annotations

import gzip
import mimetypes
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response

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
KINDS = {".js": "text/javascript", ".webmanifest": "application/manifest+json", ".css": "text/css", ".svg": "image/svg+xml"}
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
    """A route for each screen and each file, read once."""
    made = APIRouter(include_in_schema=False)
    folder = files("atelier.api") / "studio"
    for path, file in _routes(folder):
        made.add_api_route(path, _sends(file), methods=["GET"])
    return made


def _routes(folder: Traversable) -> Iterator[tuple[str, Built]]:
    if not folder.is_dir():
        yield from ((path, Built("index.html", NOT_BUILT, FRESH)) for path in SCREENS)
        return
    page = Built("index.html", (folder / "index.html").read_bytes(), FRESH)
    yield from ((path, page) for path in SCREENS)
    for entry in folder.iterdir():
        hashed = entry.name.endswith((".js", ".css")) and "/" + entry.name != WORKER
        file = Built(entry.name, entry.read_bytes(), FOREVER if hashed else FRESH)
        yield (WORKER if "/" + entry.name == WORKER else BELOW + entry.name), file


def _sends(file: Built) -> Callable[[Request], Awaitable[Response]]:
    async def sends(request: Request) -> Response:
        headers = {"Content-Type": file.kind, "Cache-Control": file.cache, "Content-Security-Policy": PAGE}
        if file.ending not in COMPRESSED:
            return Response(file.data, headers=headers)
        headers["Vary"] = "Accept-Encoding"
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(file.data, headers=headers)
        return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"})

    return sends


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
