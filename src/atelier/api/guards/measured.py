"""What Prometheus reads: requests by route and status, how long they took, and what waits and runs."""

from __future__ import annotations

import time
from typing import cast

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from atelier.runtime.jobs.job import State
from atelier.runtime.jobs.lease import Counts

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Seconds."""


class Metrics:
    """The numbers of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "atelier_http_requests", "Requests.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "atelier_http_seconds", "Until the answer began.", ("route",), buckets=_BUCKETS, registry=self.registry
        )
        self.jobs = Gauge("atelier_jobs", "Jobs by state.", ("state",), registry=self.registry)
        self.stored = Gauge("atelier_bytes", "Bytes on disk.", ("what",), registry=self.registry)
        self.ready = Gauge("atelier_ready", "1 while jobs are accepted and done.", registry=self.registry)

    def text(self, counts: Counts, *, ready: bool) -> str:
        """All of it, in Prometheus' text format."""
        for state in State:
            self.jobs.labels(state.value).set(counts.states.get(state, 0))
        self.stored.labels("outputs").set(counts.outputs)
        self.stored.labels("uploads").set(counts.uploads)
        self.ready.set(ready)
        return generate_latest(self.registry).decode()


def metrics_of(app: FastAPI) -> Metrics:
    """The metrics of an application."""
    return cast("Metrics", app.state.metrics)


class Measured:
    """Counts every request under its route, never under its path: what clients write makes no new label."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = str(getattr(scope.get("route"), "path", "none"))
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self.metrics.requests.labels(method, route, str(message["status"])).inc()
                self.metrics.seconds.labels(route).observe(time.monotonic() - began)
            await send(message)

        await self.app(scope, receive, measured)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
