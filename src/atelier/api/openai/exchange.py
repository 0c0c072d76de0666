"""One call of OpenAI's dialect: who asks what of whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from atelier.api.caller import Behind, Caller, Setup
from atelier.api.service import Service
from atelier.api.settings import Settings
from atelier.api.v1.jobs import IdempotencyKey
from atelier.runtime.jobs.job import Owner


@dataclass(frozen=True, slots=True)
class Exchange:
    """key: of idempotency."""

    request: Request
    service: Service
    settings: Settings
    owner: Owner
    key: str | None


async def _exchange(
    request: Request, service: Behind, settings: Setup, owner: Caller, idempotency_key: IdempotencyKey = None
) -> Exchange:
    return Exchange(request, service, settings, owner, idempotency_key)


Asking = Annotated[Exchange, Depends(_exchange)]
