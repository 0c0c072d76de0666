"""The HTTP application: all fronts over one service, with the guards before them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

import atelier
from atelier.api.errors import Refused, problem_of
from atelier.api.front import Front, fronts
from atelier.api.guards.answering import response
from atelier.api.guards.body import Bodies
from atelier.api.guards.cors import Cors
from atelier.api.guards.headers import SecureHeaders
from atelier.api.guards.host import Hosts
from atelier.api.guards.identity import Identity
from atelier.api.guards.json_body import JsonBodies
from atelier.api.guards.keyed import Keyed
from atelier.api.guards.measured import Measured, Metrics
from atelier.api.guards.origin import Origins
from atelier.api.schema import document, methods_at
from atelier.api.service import Service
from atelier.api.settings import Settings
from atelier.errors import AtelierError
from atelier.runtime.jobs.job import StoreFailed, located

_log = logging.getLogger("atelier.http")


def app(service: Service, settings: Settings) -> FastAPI:
    """The application over a service; nothing is started, and nothing of the process is changed."""
    metrics = Metrics()
    made = FastAPI(
        title="Atelier",
        version=atelier.__version__,
        middleware=_guards(settings, metrics),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    made.state.tasks = set[asyncio.Task[None]]()
    made.state.metrics = metrics
    made.state.service = service
    made.state.settings = settings
    for kind in (AtelierError, Refused, RequestValidationError, HTTPException):
        made.add_exception_handler(kind, _respond)
    for front in _special_first():
        made.include_router(front.router(service, settings))
    made.openapi = partial(document, made)
    return made


def _guards(settings: Settings, metrics: Metrics) -> list[Middleware]:
    """The outermost first: the order in which a request passes them."""
    return [
        Middleware(Identity),
        Middleware(Measured, metrics),
        Middleware(SecureHeaders),
        Middleware(Hosts, settings.hosts),
        Middleware(Cors, settings.origins),
        Middleware(Origins, settings.origins),
        Middleware(Keyed, settings.keys, settings.key_failures),
        Middleware(Bodies, settings.body_limit),
        Middleware(JsonBodies, settings.json_depth, settings.json_values),
    ]


def _special_first() -> list[Front]:
    """/v1/images/generations before /v1/images/{image_id}: of two routes that fit, the first answers."""
    return sorted(fronts().values(), key=lambda front: -max(len(prefix) for prefix in front.prefixes))


async def _respond(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if isinstance(error, StoreFailed):
        _log.error("the store refuses", extra={"fields": {"reason": located(error)}})
    if problem.status == 405:
        problem = replace(problem, headers=_allow(request) or problem.headers)
    return response(request.scope, problem)


def _allow(request: Request) -> tuple[tuple[str, str], ...]:
    """All methods of the path: each has a route of its own, of which the router names the first."""
    methods = methods_at(request.app, request.scope["path"])
    return (("Allow", ", ".join(methods)),) if methods else ()
