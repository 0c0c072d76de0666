"""What it costs the server to refuse hostile JSON, in time of its processor.

    python benchmarks/refusals.py [--rounds N] [--json]

Bodies of a mebibyte at most are sent to the application itself, without a socket: the shapes that cost the guards most,
and those that cost the models of the fields most. The best of N runs counts, since other work on the machine only adds
time. Exit code 0: each is refused with 4xx, in at most 10 ms; 1: one is not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from atelier.api.app import app
from atelier.api.settings import Settings
from fakes.service import FakeService

MOST_MS = 10.0
MIB = 1 << 20
VALUES = Settings().json_values
NATIVE, OPENAI, A1111 = "/v1/jobs", "/v1/images/generations", "/sdapi/v1/txt2img"


def listed(item: bytes, count: int) -> bytes:
    return b"[" + b",".join([item] * count) + b"]"


def named(count: int, value: bytes = b"1") -> bytes:
    return b",".join(b'"k%d":%s' % (number, value) for number in range(count))


MANY = VALUES - 10
BODIES: Mapping[str, bytes] = {
    "deep": b"[" * MIB,
    "deep within the number of values": b"[" * (MANY // 2) + b"]" * (MANY // 2),
    "deep in objects": b'{"a":[' * (MANY // 3),
    "wide": listed(b"1", MIB // 2),
    "wide within the limit, and a bracket": listed(b"1", MANY) + b"]",
    "numbers, and one that is none": b"[" + b"1.5," * MANY + b"NaN]",
    "objects, and a number that is none": b"[" + b'{"a":1},' * (MANY // 2) + b"NaN]",
    "names, and one twice": b"{" + named(MANY) + b',"k1":1}',
    "quotes": b'"' * MIB,
    "strings that end nowhere": b'["' + b'","' * MANY + b'"',
    "one string that ends nowhere": b'{"prompt":"' + b"x" * MIB,
    "backslashes": b'{"prompt":"' + b"\\\\" * (MIB // 2),
    "quotes that are escaped": b'{"prompt":"' + b'\\"' * (VALUES * 3) + b"x",
    "escapes, and half a character": b'{"prompt":"' + b"\\u0041" * (MIB // 6) + b'\\ud800"}',
    "pairs of halves, and one half": b'{"prompt":"' + b"\\ud83d\\ude00" * (MIB // 12) + b'\\ud800"}',
    "blanks": b" " * MIB,
    "no UTF-8 in the end": b'{"prompt":"' + b"x" * MIB + b"\xff",
    "digits": b'{"prompt":"a","seed":' + b"1" * MIB + b"}",
    "unknown fields": b'{"prompt":"a",' + named(MANY - 2) + b"}",
    "unknown fields of a kind": b'{"prompt":"a",' + named(MANY - 2, b"[]") + b"}",
    "a prompt of a mebibyte": b'{"prompt":"' + b"x" * MIB + b'"}',
    "a list of regions": b'{"prompt":"a","regions":' + listed(b"1", MANY - 2) + b"}",
    "a list of texts": b'{"prompt":"a","styles":' + listed(b'"a"', MANY - 2) + b',"steps":0}',
    "a list in place of an object": listed(b"1", MANY),
    "numbers in place of a prompt": b'{"prompt":' + listed(b"1", MANY) + b"}",
}
TO: Mapping[str, tuple[str, ...]] = {
    "unknown fields": (NATIVE,),
    "unknown fields of a kind": (NATIVE,),
    "a list of regions": (NATIVE, A1111),
    "a list of texts": (NATIVE, A1111),
}
"""Where other paths than all three take a body that is refused."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logging.disable()
    made = app(FakeService(), Settings())
    gc.collect()
    gc.freeze()  # what is imported is no part of what a refusal costs
    rows = [
        {"body": name, "path": path, **asyncio.run(measured(made, path, body, options.rounds))}
        for name, body in BODIES.items()
        for path in TO.get(name, (NATIVE, OPENAI, A1111))
    ]
    rows.sort(key=lambda row: -float(str(row["ms"])))
    within = all(float(str(row["ms"])) <= MOST_MS and 400 <= int(str(row["status"])) < 500 for row in rows)
    told = {"benchmark": "refusals", "most_ms": rows[0]["ms"], "rows": rows, "within": within}
    print(json.dumps(told, indent=None if options.json else 1))
    return 0 if within else 1


async def measured(made: FastAPI, path: str, body: bytes, rounds: int) -> dict[str, object]:
    best, status = math.inf, 0
    for _ in range(rounds):
        before = time.process_time()
        status = await asked(made, path, body)
        best = min(best, time.process_time() - before)
    return {"status": status, "ms": round(best * 1000, 1)}


async def asked(made: FastAPI, path: str, body: bytes) -> int:
    """The status of the answer."""
    headers = {"host": "localhost", "content-type": "application/json", "content-length": str(len(body))}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    await made(scope, receive, send)
    return statuses[0]


if __name__ == "__main__":
    sys.exit(main())
