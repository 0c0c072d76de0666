"""JSON that is what it seems: of bounded depth and number of values, each name once, numbers that are numbers."""

from __future__ import annotations

import json
import math
from itertools import accumulate

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atelier.api.errors import Refused, refuse
from atelier.api.guards.answering import answer

_BRACKETS = b"[]{}"
_OTHERS = bytes(sorted(set(range(256)) - set(_BRACKETS)))
_BOTH_KINDS = bytes.maketrans(b"{}", b"[]")
_STEPS = {ord("["): 1, ord("]"): -1}
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
    """Raises Refused for JSON that nests deeper than `depth`, holds more than `values` values, or is not sound."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise refuse(400, f"the body is no UTF-8 at byte {error.start}") from None
    _check_shape(body, depth, values)
    found = _parse(text)
    if b"\\ud" in body or b"\\uD" in body:
        _check_halves(found)


def _check_shape(body: bytes, depth: int, values: int) -> None:
    """Looks at what stands in no string, at the speed of copying: without what is escaped, each quote begins or ends a
    string."""
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in body else body
    many = refuse(413, f"the body has more than {values} values: send fewer", kind="TooLarge")
    if plain.count(b'"') > 4 * values:
        raise many
    outside = b"".join(plain.split(b'"')[::2])
    brackets = outside.translate(_BOTH_KINDS, _OTHERS)
    opened = brackets.count(b"[")
    if outside.count(b",") + opened > values:
        raise many
    if 2 * opened != len(brackets) or max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > depth:
        raise refuse(400, f"the body nests deeper than {depth} levels, or its brackets do not match")


def _parse(text: str) -> object:
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_constant, parse_float=_finite, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        raise refuse(400, f"the body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None


def _check_halves(found: object) -> None:
    """An escape such as \\ud800 without its other half stands for no character."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
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
