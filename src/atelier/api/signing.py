"""Addresses of images that hold for a while and need no key: what they allow is in them, and signed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from dataclasses import asdict, dataclass

from atelier.api.service import ImageKind


@dataclass(frozen=True, slots=True)
class Ticket:
    """Whose image may be read, in which format, until when (seconds since 1970)."""

    image: str
    owner: str
    kind: ImageKind
    quality: int
    until: int


def token(ticket: Ticket, secret: bytes) -> str:
    """The ticket as text for a URL."""
    said = json.dumps(asdict(ticket)).encode()
    return f"{_text(said)}.{_text(_signature(said, secret))}"


def ticket(text: str, secret: bytes) -> Ticket | None:
    """The ticket in a token; None where it was not signed with this secret, or has run out."""
    said, _, signature = text.partition(".")
    try:
        data, given = _data(said), _data(signature)
    except (binascii.Error, ValueError):
        return None
    if not hmac.compare_digest(_signature(data, secret), given):
        return None
    found = Ticket(**json.loads(data))
    return found if found.until > time.time() else None


def _signature(said: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, said, hashlib.sha256)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _data(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
