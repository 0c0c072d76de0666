"""An HTTP client that calls the application in this process."""

from __future__ import annotations

import httpx

from atelier.api.app import app
from atelier.api.keys import ring
from atelier.api.settings import Settings
from fakes.service import FakeService

SECRETS = {"anna": "a" * 40, "ben": "b" * 40, "root": "r" * 40}
"""By the name of the key; root is the admin."""


def keyed(key_failures: int = 1_000_000) -> Settings:
    """Settings with the three keys."""
    keys = ring((name, secret, name == "root") for name, secret in SECRETS.items())
    return Settings(keys=keys, key_failures=key_failures)


def bearer(name: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {SECRETS[name]}"}


def client(service: FakeService, settings: Settings | None = None, **headers: str) -> httpx.AsyncClient:
    """Calls http://localhost; close it with `async with`."""
    transport = httpx.ASGITransport(app(service, settings or Settings()))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)
