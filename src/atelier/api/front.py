"""A front: one dialect of HTTP over the service. Each module of `atelier.api.fronts` exports SPECS with its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from fastapi import APIRouter
from pydantic import BaseModel

from atelier.api.errors import Problem, Reply
from atelier.api.service import Service
from atelier.api.settings import Settings
from atelier.registry import discover

JSON = ("application/json",)


@dataclass(frozen=True, slots=True)
class Front:
    """router: makes the routes. render: a refusal in the dialect's own shape, also of what never reached a route;
    error: that shape.

    prefixes: paths that are this dialect's; of several fronts the longest prefix decides. public: paths that need no
    key (all else does, also what is in no front); one that ends in "/" is all that begins so.
    bodies: (path, media types) of paths that take something else than JSON; a path may end in "/" as above. challenge:
    the scheme of authentication that a 401 asks for.
    """

    name: str
    router: Callable[[Service, Settings], APIRouter]
    render: Callable[[Problem], Reply]
    error: type[BaseModel]
    prefixes: tuple[str, ...]
    public: tuple[str, ...] = ()
    bodies: tuple[tuple[str, tuple[str, ...]], ...] = ()
    challenge: str = "Bearer"
    aliases: tuple[str, ...] = ()


@cache
def fronts() -> Mapping[str, Front]:
    """By name."""
    import atelier.api.fronts

    return discover(atelier.api.fronts, Front)


def front_of(path: str) -> Front:
    """The front whose dialect a path speaks; the native one where none claims it."""
    found = fronts()["native"]
    longest = 0
    for front in fronts().values():
        for prefix in front.prefixes:
            if len(prefix) > longest and belongs(path, prefix):
                found, longest = front, len(prefix)
    return found


def belongs(path: str, prefix: str) -> bool:
    """Whether a path is `prefix` or lies below it."""
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")


def is_public(path: str) -> bool:
    """Whether a path needs no key."""
    return any(_is(path, public) for front in fronts().values() for public in front.public)


def media_types(path: str) -> tuple[str, ...]:
    """What the body of an unsafe request to a path may be."""
    bodies = (body for front in fronts().values() for body in front.bodies)
    return next((types for said, types in bodies if _is(path, said)), JSON)


def _is(path: str, said: str) -> bool:
    return path.startswith(said) if said.endswith("/") and said != "/" else path == said
