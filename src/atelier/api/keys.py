"""API keys: kept hashed, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from atelier.errors import BadInput
from atelier.runtime.jobs.job import Owner

LONG = 32
"""Characters: a secret as long as that, drawn by a machine, cannot be guessed from its hash, however fast that is."""


@dataclass(frozen=True, slots=True)
class Key:
    """name: whose it is, and the user of HTTP Basic. digest: of the secret, with the ring's salt."""

    name: str
    digest: bytes = field(repr=False)
    admin: bool = False


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys of a server. slow: whether a secret may be a password, so that its hash has to be a slow one."""

    keys: tuple[Key, ...] = ()
    salt: bytes = field(default=b"", repr=False)
    slow: bool = False

    def digest(self, secret: str) -> bytes:
        """The hash of a secret as this ring keeps it: some 50 ms where it is a slow one."""
        data = secret.encode("utf-8", "surrogatepass")
        if self.slow:
            return hashlib.scrypt(data, salt=self.salt, n=1 << 14, r=8, p=1, maxmem=64 << 20, dklen=32)
        return hashlib.sha256(self.salt + data).digest()

    def owner(self, secret: str, name: str | None = None) -> Owner | None:
        """Whose secret it is; name: as HTTP Basic says it. It takes as long for every wrong name and secret."""
        digest = self.digest(secret)
        found: Key | None = None
        for key in self.keys:
            same = hmac.compare_digest(key.digest, digest)
            named = name is None or hmac.compare_digest(key.name.encode(), name.encode("utf-8", "surrogatepass"))
            if same & named:
                found = key
        return None if found is None else Owner(found.name, found.admin)


def ring(given: Iterable[tuple[str, str, bool]]) -> KeyRing:
    """The ring of (name, secret, admin). Raises BadInput for an empty one, or two of one name or one secret."""
    entries = tuple(given)
    for name, secret, _ in entries:
        if not name or not secret:
            raise BadInput("an API key is empty: give NAME:SECRET, or one secret")
    for what, values in (("name", [e[0] for e in entries]), ("secret", [e[1] for e in entries])):
        if len(set(values)) < len(values):
            raise BadInput(f"two API keys have the same {what}: each key needs its own")
    empty = KeyRing((), secrets.token_bytes(16), slow=any(len(secret) < LONG for _, secret, _ in entries))
    keys = tuple(Key(name, empty.digest(secret), admin) for name, secret, admin in entries)
    return KeyRing(keys, empty.salt, empty.slow)
