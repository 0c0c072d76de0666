"""Options, models in memory, and what else an admin changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body

from atelier.api.caller import Admin, Caller
from atelier.api.errors import Problem, Refused
from atelier.api.sdapi.dialect import Dialect
from atelier.api.sdapi.names import find_model, title
from atelier.api.sdapi.options import DEFAULTS, MODEL, changes
from atelier.api.sdapi.routing import Answer, routes
from atelier.api.service import Catalogue, ModelEntry
from atelier.request.events import Json
from atelier.runtime.jobs.job import Owner

Values = Annotated[dict[str, Any], Body()]


def router(dialect: Dialect) -> APIRouter:
    """Its routes."""
    made = routes()

    @made.get("/options")
    async def options(_: Caller) -> Answer:
        """Every option with its value."""
        return shown(dialect, await dialect.service.catalogue())

    @made.post("/options")
    async def set_options(body: Values, _: Admin) -> None:
        """Keeps options; a model is in memory when this answers."""
        kept = changes(body)
        said = body.get(MODEL)
        if said:
            await _load(dialect, str(said))
        if kept:
            await dialect.keep(kept)

    @made.post("/unload-checkpoint")
    async def unload(_: Admin) -> Answer:
        """Takes all models out of memory."""
        await dialect.service.unload()
        return {}

    @made.post("/reload-checkpoint")
    async def reload(_: Admin) -> Answer:
        """Reads the current model into memory."""
        await dialect.service.load((await dialect.service.catalogue()).model)
        return {}

    for name in ("checkpoints", "vae", "loras", "embeddings"):
        made.add_api_route(f"/refresh-{name}", _refresher(dialect), methods=["POST"], name=f"refresh-{name}")
    for name in ("server-kill", "server-restart", "server-stop"):
        made.add_api_route(f"/{name}", _not_by_http, methods=["POST"], name=name)
    for name in ("create/embedding", "create/hypernetwork", "train/embedding", "train/hypernetwork"):
        made.add_api_route(f"/{name}", _not_here, methods=["POST"], name=name)
    return made


def _refresher(dialect: Dialect) -> Callable[[Owner], Awaitable[None]]:
    async def refresh(_: Admin) -> None:
        """Looks at the folders of models again."""
        await dialect.service.refresh()

    return refresh


async def _not_by_http(_: Caller) -> None:
    """Refused: whoever starts the server stops it."""
    raise Refused(Problem(404, "HTTPException", "the server is not stopped or started by HTTP: stop its process"))


async def _not_here(_: Caller) -> None:
    """Refused: training has a command of its own."""
    message = "nothing is trained through this interface: use `atelier train`"
    raise Refused(Problem(404, "HTTPException", message))


async def _load(dialect: Dialect, said: str) -> None:
    """Makes a listed model the current one. Raises Refused (422); the current one is not loaded again."""
    catalogue = await dialect.service.catalogue()
    found = find_model(catalogue, said)
    if found is None:
        raise Refused(Problem(422, "RuntimeError", f"model {said[:200]!r} not found", MODEL))
    if found.name != catalogue.model or not found.loaded:
        await dialect.service.load(found.name)


def shown(dialect: Dialect, catalogue: Catalogue) -> dict[str, Json]:
    """Every option with its value, the model by its title."""
    current = current_model(catalogue)
    own: dict[str, Json] = (
        {} if current is None else {MODEL: title(current), "sd_checkpoint_hash": current.sha256 or ""}
    )
    return {**DEFAULTS, **dialect.changed, **own}


def current_model(catalogue: Catalogue) -> ModelEntry | None:
    """The model that is used where none is named."""
    return next((model for model in catalogue.models if model.name == catalogue.model), None)
