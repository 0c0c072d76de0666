"""Fifty clients at once: each image has the hash that it has when it is asked for alone.

    scripts/accept clients [--clients N] [--json]

Exit code 0: all hashes are equal; 1: not so.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _server import Server, has_ended, serving
from soak import fields_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    asked = [fields_of(number) for number in range(options.clients)]
    secrets = [f"secret-{number:02}".ljust(40, "x") for number in range(options.clients)]
    keys = [part for number, secret in enumerate(secrets) for part in ("--api-key", f"client-{number}:{secret}")]
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), *keys) as server:
        clients = [server.of_key(secret) for secret in secrets]
        alone = [clients[0].generated(**fields) for fields in asked]
        start = time.monotonic()
        with ThreadPoolExecutor(len(clients)) as pool:
            together = list(pool.map(hashes, clients, asked))
        seconds = time.monotonic() - start
    differ = [fields for fields, one, other in zip(asked, alone, together, strict=True) if one != other]
    found = {
        "clients": options.clients,
        "images": sum(map(len, alone)),
        "differing": differ,
        "seconds": round(seconds, 1),
    }
    print(json.dumps(found, indent=None if options.json else 1))
    return 1 if differ else 0


def hashes(client: Server, fields: dict[str, Any]) -> list[str]:
    """Of a client that looks once in a second."""
    job = client.until(client.submit(**fields), has_ended, 1800, every=1.0)
    assert job["state"] == "done", job
    return [image["sha256"] for image in job["images"]]


if __name__ == "__main__":
    sys.exit(main())
