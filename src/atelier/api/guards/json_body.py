"""JSON that is what it seems: of bounded depth and number of values, each name once, numbers that are numbers."""

from __future__ import annotations

import json
import math
import re

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atelier.api.errors import Refused, refuse
from atelier.api.guards.answering import answer

_BACKSLASH = ord("\\")
_BRACKETS = b"[]{}"
_OTHERS = bytes(sorted(set(range(256)) - set(_BRACKETS)))
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_DIGITS = 40
"""Of an integer: the largest seed has 20."""


class JsonBodies:
    """Reads a JSON body whole, checks it before anybody parses it into models, and hands it on."""

    def __init__(self, app: ASGIApp, depth: int, values: int) -> None:
        self.app = app
        self.depth = depth
        self.values = values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_json(scope):
            await self.app(scope, receive, send)
            return
        try:
            body = await Request(scope, receive).body()
            if body:
                check(body, self.depth, self.values)
        except Refused as refused:
            await answer(scope, receive, send, refused.problem)
            return
        await self.app(scope, _again(body, receive), send)


def _is_json(scope: Scope) -> bool:
    kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().casefold()
    return scope["method"] not in {"GET", "HEAD", "OPTIONS"} and kind == "application/json"


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, once more; after it, what else the client does."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def check(body: bytes, depth: int, values: int) -> None:
    """Raises Refused for JSON that nests deeper than `depth`, may hold more than `values` values, or is not sound."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise refuse(400, f"the body is no UTF-8 at byte {error.start}") from None
    if body.count(b",") + body.count(b"[") + body.count(b"{") > values or body.count(b'"') > 4 * values:
        raise refuse(413, f"the body has more than {values} values: send fewer", kind="TooLarge")
    if _is_deep(body, depth):
        raise refuse(400, f"the body nests deeper than {depth} levels, or its brackets do not match")
    _parse(text)
    if _HALF.search(body):
        _check_halves(text)


def _is_deep(body: bytes, depth: int) -> bool:
    """Takes the innermost pairs of brackets away, level by level."""
    left = _outside_strings(body).translate(None, _OTHERS)
    for _ in range(depth):
        if not left:
            return False
        inner = left.replace(b"[]", b"").replace(b"{}", b"")
        if len(inner) == len(left):
            return True
        left = inner
    return bool(left)


def _outside_strings(body: bytes) -> bytes:
    """What of JSON stands in no string. It looks for quotes alone, so that a long string costs next to nothing."""
    parts: list[bytes] = []
    at = 0
    while (start := body.find(b'"', at)) >= 0:
        parts.append(body[at:start])
        end = body.find(b'"', start + 1)
        while end >= 0 and _is_escaped(body, end):
            end = body.find(b'"', end + 1)
        if end < 0:
            return b"".join(parts)
        at = end + 1
    return b"".join((*parts, body[at:]))


def _is_escaped(body: bytes, quote: int) -> bool:
    """Whether an odd number of backslashes stands before a quote."""
    before = quote
    while body[before - 1] == _BACKSLASH:
        before -= 1
    return (quote - before) % 2 == 1


def _parse(text: str) -> object:
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_constant, parse_float=_finite, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        raise refuse(400, f"the body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None


def _check_halves(text: str) -> None:
    """An escape such as \\ud800 without its other half stands for no character."""
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise refuse(400, "the body holds half of a character (\\ud800 to \\udfff): send both halves") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise refuse(400, f"{shown(twice)} stands twice in one object: name each field once")
    return found


def _constant(text: str) -> float:
    raise refuse(400, f"the body holds {text}, which is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise refuse(400, f"the body holds {text[:40]}, which is too large for a number")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise refuse(400, f"the body holds an integer of {len(text)} digits: at most {_DIGITS} are read")
    return int(text)


def shown(text: str) -> str:
    """Somebody's text within a message: in quotes, escaped, and short."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
