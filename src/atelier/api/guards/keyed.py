"""API keys: Bearer, and HTTP Basic as A1111 has it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from atelier.api.errors import Problem
from atelier.api.front import front_of, is_public
from atelier.api.guards.answering import turn_away
from atelier.api.keys import KeyRing
from atelier.runtime.jobs.job import Owner

WINDOW = 60.0
"""Seconds in which wrong keys from one address are counted; beyond the limit only keys that were right before pass."""
_REMEMBERED = 10_000
"""Addresses, and headers that were right."""
_AT_ONCE = 2
"""Slow hashes: each takes 16 MiB."""


class Throttle:
    """Counts wrong keys by address, in bounded memory."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until this address may try again; 0 = now."""
        recent = self._recent(address)
        return 0.0 if len(recent) < self.most else recent[-self.most] + WINDOW - time.monotonic()

    def failed(self, address: str) -> None:
        """Counts a try before it is known to be wrong, so that many at once count too."""
        self._failures[address] = [*self._recent(address), time.monotonic()]
        self._failures.move_to_end(address)
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Takes the count of a try back that was right after all."""
        if self._failures.get(address):
            self._failures[address].pop()

    def _recent(self, address: str) -> list[float]:
        since = time.monotonic() - WINDOW
        return [at for at in self._failures.get(address, []) if at > since]


class Keyed:
    """Puts the Owner into the scope's state, or refuses. A path that no front calls public needs a key."""

    def __init__(self, app: ASGIApp, keys: KeyRing, failures: int) -> None:
        self.app = app
        self.keys = keys
        self.throttle = Throttle(failures)
        self._known: OrderedDict[bytes, Owner] = OrderedDict()
        self._secret = secrets.token_bytes(32)
        self._limiter: CapacityLimiter | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        found = await self._owner(scope) if self.keys.keys else Owner()
        owner = found if isinstance(found, Owner) else None
        scope.setdefault("state", {})["owner"] = owner
        if isinstance(found, Problem) and not is_public(scope["path"]):
            await turn_away(scope, receive, send, found)
            return
        await self.app(scope, receive, send)

    async def _owner(self, scope: Scope) -> Owner | Problem:
        given = Headers(scope=scope).getlist("authorization")
        secret, name = credentials(given[0]) if len(given) == 1 else (None, None)
        if secret is None:
            return _missing(scope)
        header = hmac.digest(self._secret, given[0].encode("latin-1"), hashlib.sha256)
        if header in self._known:
            return self._known[header]
        owner = await self._tried(_address(scope), secret, name)
        if isinstance(owner, Owner):
            self._known[header] = owner
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return owner or _wrong(scope)

    async def _tried(self, address: str, secret: str, name: str | None) -> Owner | Problem | None:
        wait = self.throttle.wait(address)
        if wait > 0:
            message = f"{self.throttle.most} wrong API keys came from this address: try again in {wait:.0f} seconds"
            return Problem(429, "Throttled", message, retry_after=wait)
        self.throttle.failed(address)
        owner = await self._matched(secret, name)
        if owner is not None:
            self.throttle.succeeded(address)
        return owner

    async def _matched(self, secret: str, name: str | None) -> Owner | None:
        if not self.keys.slow:
            return self.keys.owner(secret, name)
        self._limiter = self._limiter or CapacityLimiter(_AT_ONCE)
        return await to_thread.run_sync(self.keys.owner, secret, name, limiter=self._limiter)


def _address(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else ""


def _missing(scope: Scope) -> Problem:
    message = "Not authenticated: send an API key in the header Authorization, as Bearer KEY or as HTTP Basic"
    return Problem(401, "Unauthorized", message, headers=_challenge(scope))


def _wrong(scope: Scope) -> Problem:
    message = "Incorrect username or password: the server has no such API key"
    return Problem(401, "Unauthorized", message, headers=_challenge(scope))


def _challenge(scope: Scope) -> tuple[tuple[str, str], ...]:
    return (("WWW-Authenticate", f'{front_of(scope["path"]).challenge} realm="atelier"'),)


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
    except (binascii.Error, ValueError):
        return None, None
    return (secret, name) if colon else (None, None)
