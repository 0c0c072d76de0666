"""What clients of A1111 ask before anything else."""

from __future__ import annotations

from urllib.parse import parse_qsl

from anyio import to_thread
from fastapi import APIRouter, Request

from atelier.api.caller import Caller
from atelier.api.errors import Problem, Refused
from atelier.api.guards.keyed import Throttle
from atelier.api.keys import KeyRing
from atelier.api.sdapi.dialect import Dialect
from atelier.api.sdapi.lists import system
from atelier.api.sdapi.routing import Answer, routes
from atelier.api.settings import Settings
from atelier.request.events import Json
from atelier.runtime.jobs.job import State

FORM = "application/x-www-form-urlencoded"
LONGEST = 4096
"""Bytes of a form."""


def router(dialect: Dialect, settings: Settings) -> APIRouter:
    """Its routes."""
    made = routes("")
    keys, throttle = settings.keys, Throttle(settings.key_failures)

    @made.get("/internal/ping")
    async def ping() -> Answer:
        """The server is there."""
        return {}

    @made.get("/internal/sysinfo")
    async def sysinfo(_: Caller) -> Answer:
        return system()

    @made.get("/internal/quicksettings-hint")
    async def hints(_: Caller) -> list[str]:
        return []

    @made.get("/app_id")
    @made.get("/app_id/")
    async def app_id() -> Answer:
        """Pages compare it with the one they were made for."""
        return {"app_id": 0}

    @made.get("/queue/status")
    async def queue(_: Caller) -> Answer:
        """How many jobs wait, of all owners."""
        waiting = (await dialect.service.counts()).states.get(State.QUEUED, 0)
        unknown: dict[str, Json] = dict.fromkeys(("rank", "avg_event_process_time", "rank_eta"))
        return {"msg": "estimation", "queue_size": waiting, **unknown}

    @made.post("/login")
    async def login(request: Request) -> Answer:
        """Says whether a name and a key belong together. It opens no session: each request carries its key."""
        name, secret = _form(await request.body())
        if keys.keys:
            await _check(keys, throttle, request, name, secret)
        return {"success": True}

    return made


def _form(body: bytes) -> tuple[str, str]:
    if len(body) > LONGEST:
        raise Refused(Problem(422, "HTTPException", f"the form has more than {LONGEST} bytes"))
    said = dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=8))
    return said.get("username", ""), said.get("password", "")


async def _check(keys: KeyRing, throttle: Throttle, request: Request, name: str, secret: str) -> None:
    """Raises Refused for a wrong key, and where too many were tried."""
    address = request.client.host if request.client else ""
    wait = throttle.wait(address)
    if wait > 0:
        raise Refused(Problem(429, "Throttled", "too many wrong keys came from this address", retry_after=wait))
    throttle.failed(address)
    if await to_thread.run_sync(keys.owner, secret, name) is None:
        raise Refused(Problem(400, "HTTPException", "Incorrect credentials."))
    throttle.succeeded(address)
