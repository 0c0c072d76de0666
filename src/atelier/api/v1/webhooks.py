"""Telling another program that a job has ended; only addresses that the operator named are called."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from urllib.parse import urlsplit

import httpx

from atelier.api.errors import refuse
from atelier.api.guards.identity import as_line
from atelier.api.service import Service
from atelier.api.v1.shapes import job_shape
from atelier.errors import AtelierError
from atelier.runtime.jobs.job import Owner

PAUSES = (1.0, 5.0, 25.0)
"""Seconds before another try."""
_SECONDS = 10.0
"""For one call."""
log = logging.getLogger("atelier.http")


def allowed(url: str, named: Iterable[str]) -> None:
    """Refuses (422) a URL that does not lie below one of the named ones: same scheme, host and port, and path."""
    try:
        asked = urlsplit(url)
        fits = (
            any(_below(asked.geturl(), name) for name in named) and "@" not in asked.netloc and ".." not in asked.path
        )
    except ValueError:
        fits = False
    if not fits:
        message = "webhook is not among the addresses that the server may call: start it with --allow-webhook URL"
        raise refuse(422, message, field="webhook")


def _below(url: str, name: str) -> bool:
    return url == name or url.startswith(name if name.endswith("/") else name + "/")


async def report(service: Service, job_id: str, owner: Owner, url: str) -> None:
    """Waits for the end of a job and posts it as JSON, again after a pause where the other side does not answer 2xx.

    No redirect is followed. The process that accepted the job does this; it is not done over after a restart.
    """
    try:
        job = await service.ended(job_id, owner)
    except AtelierError:
        return
    body = job_shape(job).model_dump_json()
    for pause in (*PAUSES, None):
        if await _posted(url, body) or pause is None:
            return
        await asyncio.sleep(pause)


def _host(url: str) -> str:
    """Where a webhook is; what follows in its address is often a secret."""
    return urlsplit(url).netloc


async def _posted(url: str, body: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False, trust_env=False) as client:
            answer = await client.post(url, content=body, headers={"Content-Type": "application/json"})
    except httpx.HTTPError as error:
        log.warning("%s", as_line(webhook=_host(url), error=type(error).__name__))
        return False
    if not answer.is_success:
        log.warning("%s", as_line(webhook=_host(url), status=answer.status_code))
    return answer.is_success
