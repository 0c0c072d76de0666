"""Names that the server answers to: a web page that points a name of its own at this machine gets nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from atelier.api.errors import Problem
from atelier.api.guards.answering import turn_away
from atelier.api.settings import is_loopback

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")


class Hosts:
    """Refuses (421) a Host that is neither of loopback nor in `allowed`, and what is not one Host. Looks nothing up."""

    def __init__(self, app: ASGIApp, allowed: Iterable[str]) -> None:
        self.app = app
        self.allowed = frozenset(name.casefold() for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            problem = self._problem(scope)
            if problem is not None:
                await turn_away(scope, receive, send, problem)
                return
        await self.app(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        if not scope["path"].startswith("/"):
            return Problem(400, "BadInput", "the address in the request's first line is no path: begin it with /")
        name = host_name(scope)
        if name is None:
            return Problem(400, "BadInput", "the header Host is missing, double, or no name: send exactly one")
        if is_loopback(name) or name.casefold() in self.allowed:
            return None
        return Problem(421, "BadInput", "the server does not answer to this Host: start it with --allow-host NAME")


def host_name(scope: Scope) -> str | None:
    """The name in the one Host header, without its port; None where there is not one."""
    found = [value for name, value in scope["headers"] if name == b"host"]
    matched = _HOST.fullmatch(found[0].decode("latin-1")) if len(found) == 1 else None
    return matched["name"] if matched else None
