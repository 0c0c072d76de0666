"""Who calls, and what answers: what routes ask for in their parameters.

These are coroutines although none waits: FastAPI asks plain functions in a thread each."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from atelier.api.errors import Problem, Refused
from atelier.api.service import Service
from atelier.api.settings import Settings
from atelier.runtime.jobs.job import Owner


async def owner_of(request: Request) -> Owner:
    """The owner whom the key in the request names; the guard in front of all routes has put it there."""
    owner = request.scope.get("state", {}).get("owner")
    if not isinstance(owner, Owner):
        raise Refused(Problem(401, "Unauthorized", "no API key was given: send Authorization: Bearer KEY"))
    return owner


async def admin_of(owner: Annotated[Owner, Depends(owner_of)]) -> Owner:
    """The owner, who may change what all see."""
    if not owner.admin:
        raise Refused(Problem(403, "Forbidden", "this API key may not do that: it needs a key of an admin"))
    return owner


async def service_of(request: Request) -> Service:
    """The service behind the application."""
    return cast("Service", request.app.state.service)


async def settings_of(request: Request) -> Settings:
    """How the application is set up."""
    return cast("Settings", request.app.state.settings)


Behind = Annotated[Service, Depends(service_of)]
Setup = Annotated[Settings, Depends(settings_of)]
Caller = Annotated[Owner, Depends(owner_of)]
Admin = Annotated[Owner, Depends(admin_of)]
