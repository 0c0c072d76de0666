"""How the HTTP side of the server is set up."""

from __future__ import annotations

import ipaddress
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from atelier.api.keys import KeyRing
from atelier.errors import BadInput

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """keys: none = everybody who reaches the server is its admin. hosts: names it answers to beside those of loopback.

    origins: web pages of other origins that may call it ("https://example.org"), exact. body_limit: bytes of a request.
    json_depth, json_values: of a JSON body. public_url: what signed URLs begin with, None = as the client wrote it.
    url_secret: signs them; url_seconds: how long they hold. key_failures: wrong keys that one address may send in a
    minute. webhooks: addresses that jobs may report to, by what their URLs begin with. options_file: where changed
    options of A1111's dialect are kept, None = they last as long as the process.
    """

    keys: KeyRing = field(default_factory=KeyRing)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    body_limit: int = 64 * MIB
    json_depth: int = 64
    json_values: int = 5_000
    public_url: str | None = None
    url_secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    url_seconds: int = 3600
    key_failures: int = 10
    webhooks: tuple[str, ...] = ()
    options_file: Path | None = None


def secret(folder: Path) -> bytes:
    """What signs addresses of images, kept in a folder so that they hold when the server starts again."""
    path = folder / "addresses.key"
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        found = secrets.token_bytes(32)
        folder.mkdir(parents=True, exist_ok=True)
        only_for_its_owner = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(only_for_its_owner, "wb") as file:
            file.write(found)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    if len(found) < 32:
        raise BadInput(f"{path}: is shorter than 32 bytes: delete it, and a new one is made")
    return found


def is_loopback(host: str) -> bool:
    """Whether an address or a name is only this machine's. No name is looked up."""
    bare = host.strip("[]").casefold()
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def check_address(host: str, keys: KeyRing) -> None:
    """Raises BadInput where a server would be reached from other machines without a key."""
    if not keys.keys and not is_loopback(host):
        raise BadInput(f"--host {host}: other machines reach this address, so it needs an API key: give --api-key")
