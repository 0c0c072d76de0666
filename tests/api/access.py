"""Who may call what, for every route of the application: a route that is not here fails the tests (H02)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Who = Literal["all", "key", "admin"]
"""Everybody; each API key, for what is its own; keys of admins alone."""
Access = Mapping[tuple[str, str], Who]

NATIVE: Access = {
    ("POST", "/v1/jobs"): "key",
    ("POST", "/v1/jobs/upscale"): "key",
    ("POST", "/v1/jobs/interrogate"): "key",
    ("GET", "/v1/jobs"): "key",
    ("GET", "/v1/jobs/{job_id}"): "key",
    ("POST", "/v1/jobs/{job_id}/cancel"): "key",
    ("DELETE", "/v1/jobs/{job_id}"): "key",
    ("GET", "/v1/jobs/{job_id}/events"): "key",
    ("GET", "/v1/images/{image_id}"): "key",
    ("GET", "/v1/images/{image_id}/metadata"): "key",
    ("GET", "/v1/images/{image_id}/thumbnail"): "key",
    ("POST", "/v1/uploads"): "key",
    ("POST", "/v1/image-text"): "key",
    ("GET", "/v1/models"): "key",
    ("GET", "/v1/models/{model}"): "key",
    ("POST", "/v1/models/load"): "admin",
    ("POST", "/v1/models/unload"): "admin",
    ("POST", "/v1/models/refresh"): "admin",
    ("GET", "/v1/samplers"): "key",
    ("GET", "/v1/schedulers"): "key",
    ("GET", "/v1/upscalers"): "key",
    ("GET", "/v1/autoencoders"): "key",
    ("GET", "/v1/adapters"): "key",
    ("GET", "/v1/embeddings"): "key",
    ("GET", "/v1/styles"): "key",
    ("GET", "/v1/capabilities"): "key",
    ("GET", "/healthz"): "all",
    ("GET", "/readyz"): "all",
    ("GET", "/metrics"): "admin",
    ("GET", "/openapi.json"): "key",
}
OPENAI: Access = {
    ("POST", "/v1/images/generations"): "key",
    ("POST", "/v1/images/edits"): "key",
    ("POST", "/v1/images/variations"): "key",
    ("GET", "/v1/files/{ticket}"): "all",  # the ticket is the key
}
PAGE: Access = {("GET", "/"): "all", ("GET", "/page.css"): "all", ("GET", "/page.js"): "all"}
ACCESS: Access = {**NATIVE, **OPENAI, **PAGE}
