"""Who calls: what routes ask for in their parameters."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from atelier.api.errors import Problem, Refused
from atelier.runtime.jobs.job import Owner


def owner_of(request: Request) -> Owner:
    """The owner whom the key in the request names; the guard in front of all routes has put it there."""
    owner = request.scope.get("state", {}).get("owner")
    if not isinstance(owner, Owner):
        raise Refused(Problem(401, "Unauthorized", "no API key was given: send Authorization: Bearer KEY"))
    return owner


def admin_of(owner: Annotated[Owner, Depends(owner_of)]) -> Owner:
    """The owner, who may change what all see."""
    if not owner.admin:
        raise Refused(Problem(403, "Forbidden", "this API key may not do that: it needs a key of an admin"))
    return owner


Caller = Annotated[Owner, Depends(owner_of)]
Admin = Annotated[Owner, Depends(admin_of)]
