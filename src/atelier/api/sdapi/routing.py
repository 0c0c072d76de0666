"""Routes as A1111 has them: each answer says how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

TAG = "A1111"
Answer = dict[str, Any]
"""An object of JSON, as FastAPI can check and describe it."""
Rows = list[dict[str, Any]]


class Timed(APIRoute):
    """A route whose answers have the header X-Process-Time, in seconds."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def timed(request: Request) -> Response:
            started = time.perf_counter()
            response = await handler(request)
            response.headers["X-Process-Time"] = f"{time.perf_counter() - started:.4f}"
            return response

        return timed


def routes(prefix: str = "/sdapi/v1") -> APIRouter:
    """An empty router of the dialect."""
    return APIRouter(prefix=prefix, route_class=Timed, tags=[TAG])
