"""What the server runs with, and who asks: paths and names of keys are for admins alone."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter

import atelier
from atelier.api.caller import Behind, Caller, Setup
from atelier.api.service import ServerFacts
from atelier.api.settings import Settings
from atelier.api.v1.shapes import Shape

routes = APIRouter(tags=["server"])


class CallerShape(Shape):
    """Whose key it is, "" where the server asks for none."""

    key: str
    admin: bool


class WorkerShape(Shape):
    name: str
    device: str
    ready: bool
    busy: bool
    loaded: list[str]
    device_free: int
    device_total: int


class FolderShape(Shape):
    """free, total: bytes of its disk."""

    path: str
    free: int
    total: int
    there: bool
    writable: bool


class KeyShape(Shape):
    """A key without its secret."""

    name: str
    admin: bool


class PlacesShape(Shape):
    """Where things lie on the server. models: the first one gets what is made; kept: bytes by what they are."""

    models: list[FolderShape]
    data: FolderShape
    database: str
    kept: Mapping[str, int]


class AccessShape(Shape):
    """Who may call. keys: none = everybody who reaches it is an admin; hosts, origins, webhooks: as it was started."""

    keys: list[KeyShape]
    hosts: list[str]
    origins: list[str]
    webhooks: list[str]


class ServerShape(Shape):
    """What the server runs with. torch: its version, "" where it is not installed; limits: by name, seconds and bytes;
    you: who asks; places, access: null for keys that are no admin's."""

    version: str
    python: str
    torch: str
    system: str
    started: float
    workers: list[WorkerShape]
    limits: Mapping[str, float]
    you: CallerShape
    places: PlacesShape | None
    access: AccessShape | None


@routes.get("/v1/server")
async def server(service: Behind, owner: Caller, settings: Setup) -> ServerShape:
    """What the server runs with, and who asks."""
    facts = await service.facts()
    return ServerShape(
        version=atelier.__version__,
        python=platform.python_version(),
        torch=_torch(),
        system=f"{platform.system()} {platform.machine()}",
        started=facts.started,
        workers=[WorkerShape.model_validate(own) for own in facts.workers],
        limits={**facts.limits, "body": float(settings.body_limit)},
        you=CallerShape.model_validate(owner),
        places=_places(facts) if owner.admin else None,
        access=_access(settings) if owner.admin else None,
    )


def _places(facts: ServerFacts) -> PlacesShape:
    models = [FolderShape.model_validate(own) for own in facts.models]
    data = FolderShape.model_validate(facts.data)
    return PlacesShape(models=models, data=data, database=facts.database, kept=facts.kept)


def _access(settings: Settings) -> AccessShape:
    return AccessShape(
        keys=[KeyShape(name=key.name, admin=key.admin) for key in settings.keys.keys],
        hosts=[*settings.hosts],
        origins=[*settings.origins],
        webhooks=[*settings.webhooks],
    )


def _torch() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""
