"""API keys: Bearer, and HTTP Basic as A1111 has it."""

from __future__ import annotations

import base64
import binascii

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from atelier.api.errors import Problem
from atelier.api.front import is_public
from atelier.api.guards.answering import answer
from atelier.api.keys import KeyRing
from atelier.runtime.jobs.job import Owner

WRONG = "Incorrect username or password"
CHALLENGE = (("WWW-Authenticate", 'Bearer, Basic realm="atelier"'),)


class Keyed:
    """Puts the Owner into the scope's state, or refuses. A path that no front calls public needs a key."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self.app = app
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        owner = Owner() if not self.keys.keys else await self._owner(Headers(scope=scope).get("authorization"))
        scope.setdefault("state", {})["owner"] = owner
        if owner is None and not is_public(scope["path"]):
            await answer(scope, receive, send, Problem(401, "Unauthorized", WRONG, headers=CHALLENGE))
            return
        await self.app(scope, receive, send)

    async def _owner(self, header: str | None) -> Owner | None:
        secret, name = credentials(header or "")
        if secret is None:
            return None
        return await to_thread.run_sync(self.keys.owner, secret, name)


def credentials(header: str) -> tuple[str | None, str | None]:
    """(secret, name) of an Authorization header; no name from Bearer, and no secret where it is neither."""
    scheme, _, rest = header.partition(" ")
    match scheme.casefold():
        case "bearer":
            return rest.strip() or None, None
        case "basic":
            return _basic(rest)
        case _:
            return None, None


def _basic(text: str) -> tuple[str | None, str | None]:
    """A password may hold colons, a name may not (RFC 7617)."""
    try:
        name, colon, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    return (secret, name) if colon else (None, None)
